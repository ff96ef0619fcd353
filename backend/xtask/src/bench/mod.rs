//! `cargo xtask bench`: measurements against peers, as ratios from one run on one machine.
//!
//! A benchmark is a program that prints what it measured, its peer and the peer's version, and
//! whether the bar was reached; no figure fails it. This command installs the peers, builds
//! everything optimised at once, runs the programs one after another and ends with one table of all
//! that they printed ([`table`]). One that fails is a row of it, and the others still run.

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{packages, process, say, web};
use table::Table;

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
#[derive(PartialEq, Eq)]
enum Program {
    /// The bench target of this name.
    Cargo,
    /// Playwright.
    Browser,
}

/// Packages with benchmarks, and with the programs that they run. Always all of them: what each is built
/// with depends on who else is.
const PACKAGES: &[&str] = &["wharf-agent", "wharf-billing", "wharf-cli", "wharf-e2e", "wharf-shim"];
/// The programs that benchmarks run.
const PROGRAMS: &[&str] = &["wharf", "wharf-shim", "wharfd"];

/// What there is.
const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "supervision",
        program: Program::Cargo,
        measures: "log throughput, time from request to exit, memory per supervisor",
    },
    Benchmark {
        name: "start",
        program: Program::Cargo,
        measures: "create, start, end and removal through the API, against docker run and runc run",
    },
    Benchmark {
        name: "oci",
        program: Program::Cargo,
        measures: "start to exit of wharf oci run, against crun and runc, hot and after idling",
    },
    Benchmark {
        name: "request",
        program: Program::Cargo,
        measures: "request over the HTTP API to the container's first instruction, against docker run",
    },
    Benchmark {
        name: "throughput",
        program: Program::Cargo,
        measures: "starts a second through the API for a minute, against docker run",
    },
    Benchmark {
        name: "exec",
        program: Program::Cargo,
        measures: "exec into a running container up to its first instruction, against docker exec",
    },
    Benchmark {
        name: "thousand",
        program: Program::Cargo,
        measures: "agent's memory and CPU, list and inspect with 1,000 idle containers",
    },
    Benchmark {
        name: "native",
        program: Program::Cargo,
        measures: "CPU, memory, files and network in a container against the host's and docker's",
    },
    Benchmark {
        name: "logs",
        program: Program::Cargo,
        measures: "log bytes a second, written and read back, against dockerd's json-file",
    },
    Benchmark {
        name: "memory",
        program: Program::Cargo,
        measures: "memory of a running container outside its own processes, against docker",
    },
    Benchmark {
        name: "metering",
        program: Program::Cargo,
        measures: "CPU time of reading 1,000 containers' counters",
    },
    Benchmark {
        name: "statement",
        program: Program::Cargo,
        measures: "a month's statement for one tenant of 278,000 container-hours",
    },
    Benchmark {
        name: "export",
        program: Program::Cargo,
        measures: "rows a second of JSON lines, FOCUS CSV and Parquet, and the memory of it",
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
    let built = build(repo, &benchmarks)?;
    let machine = machine()?;
    let mut table = Table::default();
    for bench in benchmarks {
        say::heading(&format!("{}: {}", bench.name, bench.measures));
        let outcome = bench.command(repo, &built).and_then(|command| {
            process::stream(&mut process::without_network(&command), |line| {
                say::line(line);
                table.read(bench.name, line);
            })
        });
        match outcome {
            Ok(true) => {}
            Ok(false) => table.fail(bench.name, "it did not come to its end; what it said is above"),
            Err(error) => table.fail(bench.name, &format!("{error:#}")),
        }
    }
    say::heading("everything that was measured");
    table.lines(&machine).iter().for_each(|line| say::line(line));
    Ok(if table.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bench target's program, and where cargo runs it.
struct Built {
    program: PathBuf,
    dir: PathBuf,
}

/// Builds the benchmarks with all programs that they run. Returns the benchmarks by name.
fn build(repo: &Path, benchmarks: &[&Benchmark]) -> Result<BTreeMap<String, Built>> {
    let mut command = process::cargo(repo);
    command.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    command.args(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
    let targets = benchmarks.iter().filter(|bench| bench.program == Program::Cargo);
    command.args(targets.flat_map(|bench| ["--bench", bench.name]));
    process::read(&mut command)?.lines().filter_map(|line| built(line).transpose()).collect()
}

/// The bench target that cargo tells of in this line, if it does.
fn built(line: &str) -> Result<Option<(String, Built)>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let message: Message = serde_json::from_str(line).context("understand what cargo has built")?;
    let Message { executable: Some(program), manifest_path: Some(manifest), target: Some(target) } = message
    else {
        return Ok(None);
    };
    let dir = manifest.parent().context("find a package's directory")?.to_owned();
    let is_bench = target.kind.iter().any(|kind| kind == "bench");
    Ok(is_bench.then_some((target.name, Built { program, dir })))
}

/// What the figures depend on besides the peers.
fn machine() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let cpus = read("/proc/cpuinfo")?;
    let field = |line: &str| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned());
    let model = cpus.lines().find_map(field).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = read("/proc/meminfo")?;
    let memory = memory.lines().next().unwrap_or_default().split_whitespace().nth(1).unwrap_or_default();
    let count = std::thread::available_parallelism().context("count the processors")?;
    let load = read("/proc/loadavg")?;
    let load: Vec<&str> = load.split(' ').take(3).collect();
    Ok(format!(
        "Linux {}, {count} × {model}, {memory} kB of memory, load {} at the start",
        kernel.trim(),
        load.join(" ")
    ))
}

impl Benchmark {
    fn command(&self, repo: &Path, built: &BTreeMap<String, Built>) -> Result<Command> {
        Ok(match self.program {
            Program::Cargo => {
                let built = built.get(self.name).context("cargo did not say that it built this")?;
                let mut command = Command::new(&built.program);
                command.arg("--bench").current_dir(&built.dir);
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

    #[test]
    fn of_what_cargo_built_only_benchmarks_are_run_as_such() {
        let line = |kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/src/e2e/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"oci"}},"executable":"/target/oci-1"}}"#
            )
        };
        let (name, bench) = built(&line("bench")).expect("understood").expect("a benchmark");
        assert_eq!((name.as_str(), bench.dir.as_path()), ("oci", Path::new("/src/e2e")));
        assert_eq!(bench.program, Path::new("/target/oci-1"));
        assert!(built(&line("bin")).expect("understood").is_none());
        assert!(built(r#"{"reason":"build-finished","success":true}"#).expect("understood").is_none());
    }
}
