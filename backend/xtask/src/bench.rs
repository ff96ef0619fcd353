//! `cargo xtask bench`: measurements against peers, as ratios from one run on one machine.
//!
//! A benchmark is a program that prints what it measured, its peer and the peer's version, and
//! whether the bar was reached; no figure fails it. This command installs the peers, builds
//! everything optimised and runs the programs one after another.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{packages, process, say, web};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Run only benchmarks whose name contains this.
    filter: Option<String>,
}

/// One benchmark.
struct Benchmark {
    name: &'static str,
    program: Program,
    measures: &'static str,
}

/// What runs it.
enum Program {
    /// A bench target of this package.
    Cargo(&'static str),
    /// The same, with the optimised agent beside it.
    WithAgent(&'static str),
    /// The same, with the optimised command line and runtime beside it.
    WithRuntime(&'static str),
    /// Playwright, with the optimised agent.
    Browser,
}

/// What there is.
const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "supervision",
        program: Program::Cargo("wharf-shim"),
        measures: "log throughput, time from request to exit, memory per supervisor",
    },
    Benchmark {
        name: "start",
        program: Program::WithAgent("wharf-e2e"),
        measures: "create, start, end and removal through the API, against docker run and runc run",
    },
    Benchmark {
        name: "oci",
        program: Program::WithRuntime("wharf-e2e"),
        measures: "start to exit of wharf oci run, against crun and runc, hot and after idling",
    },
    Benchmark {
        name: "request",
        program: Program::WithAgent("wharf-e2e"),
        measures: "request over the HTTP API to the container's first instruction, against docker run",
    },
    Benchmark {
        name: "throughput",
        program: Program::WithAgent("wharf-e2e"),
        measures: "starts a second through the API for a minute, against docker run",
    },
    Benchmark {
        name: "exec",
        program: Program::WithAgent("wharf-e2e"),
        measures: "exec into a running container up to its first instruction, against docker exec",
    },
    Benchmark {
        name: "thousand",
        program: Program::WithAgent("wharf-e2e"),
        measures: "agent's memory and CPU, list and inspect with 1,000 idle containers",
    },
    Benchmark {
        name: "native",
        program: Program::WithAgent("wharf-e2e"),
        measures: "CPU, memory, files and network in a container against the host's and docker's",
    },
    Benchmark {
        name: "logs",
        program: Program::WithAgent("wharf-e2e"),
        measures: "log bytes a second, written and read back, against dockerd's json-file",
    },
    Benchmark {
        name: "memory",
        program: Program::WithAgent("wharf-e2e"),
        measures: "memory of a running container outside its own processes, against docker",
    },
    Benchmark {
        name: "metering",
        program: Program::Cargo("wharf-runtime"),
        measures: "CPU time of reading 200 containers' counters once a second",
    },
    Benchmark {
        name: "dashboard",
        program: Program::Browser,
        measures: "size of the first load, and frames with 1,000 live rows in Chromium",
    },
];

/// Runs the benchmarks.
pub(crate) fn run(repo: &Path, arguments: &BenchArguments) -> Result<ExitCode> {
    process::require_root("bench", "it runs containers of ours and of the peers")?;
    let wanted =
        |bench: &&Benchmark| arguments.filter.as_deref().is_none_or(|part| bench.name.contains(part));
    let benchmarks: Vec<&Benchmark> = BENCHMARKS.iter().filter(wanted).collect();
    if benchmarks.is_empty() {
        let names: Vec<_> = BENCHMARKS.iter().map(|bench| bench.name).collect();
        say::error(&format!("there is no such benchmark; there are {}", names.join(", ")));
        return Ok(ExitCode::FAILURE);
    }
    packages::ensure(packages::AGENT)?;
    packages::ensure(packages::BENCH)?;
    let browser = benchmarks.iter().any(|bench| matches!(bench.program, Program::Browser));
    if browser {
        packages::ensure(packages::TEST)?;
        packages::ensure(web::PACKAGES)?;
        web::build(repo, true)?;
        packages::install_node_modules(&repo.join("e2e/web"))?;
    }
    let mut packages: Vec<&str> =
        benchmarks.iter().flat_map(|bench| bench.program.beside()).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        let mut build = process::cargo(repo);
        build.args(["build", "--release", "--locked"]);
        build.args(packages.iter().flat_map(|package| ["-p", package]));
        process::run(&mut build)?;
    }
    for bench in benchmarks {
        say::heading(&format!("{}: {}", bench.name, bench.measures));
        process::run(&mut process::without_network(&bench.command(repo)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Program {
    /// Packages whose programs must be there.
    fn beside(&self) -> &'static [&'static str] {
        match self {
            Self::Cargo(_) => &[],
            Self::WithAgent(_) | Self::Browser => &["wharf-agent", "wharf-shim"],
            Self::WithRuntime(_) => &["wharf-cli", "wharf-shim"],
        }
    }
}

impl Benchmark {
    fn command(&self, repo: &Path) -> Result<Command> {
        Ok(match self.program {
            Program::Cargo(package) | Program::WithAgent(package) | Program::WithRuntime(package) => {
                let mut command = process::cargo(repo);
                command.args(["bench", "--locked", "-p", package, "--bench", self.name]);
                command
            }
            Program::Browser => {
                let mut command = Command::new("npx");
                command.args(["playwright", "test", "--config", "bench.config.js", self.name]);
                command.current_dir(repo.join("e2e/web"));
                command.env("WHARFD", process::program("release", "wharfd")?);
                command
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = BENCHMARKS.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), BENCHMARKS.len());
    }
}
