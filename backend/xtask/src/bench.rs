//! `cargo xtask bench`: measurements against peers, as ratios from one run on one machine.
//!
//! A benchmark is a program that prints what it measured, its peer and the peer's version; this
//! command installs the peers, builds everything optimised and runs the programs one after another.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::{packages, process, say};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// Run only benchmarks whose name contains this.
    filter: Option<String>,
}

/// One benchmark: a bench target of a package.
struct Benchmark {
    name: &'static str,
    package: &'static str,
    measures: &'static str,
}

/// What there is.
const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: "supervision",
    package: "wharf-shim",
    measures: "log throughput, time from request to exit, memory per supervisor",
}];

/// Runs the benchmarks.
pub(crate) fn run(repo: &Path, arguments: &BenchArguments) -> Result<ExitCode> {
    process::require_root("bench", "it runs containers of ours and of the peers")?;
    packages::ensure(packages::AGENT)?;
    packages::ensure(packages::BENCH)?;
    let wanted =
        |bench: &&Benchmark| arguments.filter.as_deref().is_none_or(|part| bench.name.contains(part));
    let mut ran = 0_usize;
    for bench in BENCHMARKS.iter().filter(wanted) {
        say::heading(&format!("{}: {}", bench.name, bench.measures));
        let mut command = process::cargo(repo);
        command.args(["bench", "--locked", "-p", bench.package, "--bench", bench.name]);
        process::run(&mut process::without_network(&command))?;
        ran += 1;
    }
    if ran == 0 {
        say::error("there is no such benchmark");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
