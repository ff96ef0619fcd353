//! `cargo xtask test`: every test, in stages, each under a heading and with its time.
//!
//! First everything is fetched; from then on whatever may talk to a network runs in a network
//! namespace of its own, where nothing but loopback is. A failing stage does not stop the others.
//! The last line is `N passed, N failed`, the sum over all runners, and the exit status says the same.

mod results;
mod stages;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

pub(crate) use results::Tally;
pub(crate) use stages::Plan;
use stages::{Stage, Work};

use crate::{process, say};

/// What to test.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TestArguments {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run only stages whose name contains this (may be given more than once); `--list` names them.
    #[arg(long)]
    stage: Vec<String>,
    /// Name the stages and run nothing.
    #[arg(long)]
    list: bool,
}

/// Runs the stages.
pub(crate) fn run(repo: &Path, arguments: &TestArguments) -> Result<ExitCode> {
    let plan = Plan::new(repo, arguments.filter.as_deref(), false);
    let wanted = |stage: &Stage| {
        arguments.stage.is_empty() || arguments.stage.iter().any(|part| stage.name.contains(part.as_str()))
    };
    let stages: Vec<Stage> = plan.stages().into_iter().filter(wanted).collect();
    if arguments.list {
        for stage in &stages {
            say::line(stage.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    process::require_root("test", "its tests make namespaces, cgroups and network links")?;
    say::heading("prepare");
    plan.prepare()?;
    Ok(run_stages(stages, arguments.filter.is_some()))
}

/// Runs these stages and prints the summary.
pub(crate) fn run_stages(stages: Vec<Stage>, filtered: bool) -> ExitCode {
    let mut summary = Vec::new();
    for stage in stages {
        say::heading(stage.name);
        let begun = Instant::now();
        let runs_tests = stage.runs_tests && !filtered;
        let tally = run_stage(stage.work, runs_tests, &say::line);
        let took = begun.elapsed();
        say::line(&format!("---- {}: {}", stage.name, seconds(took)));
        summary.push((stage.name, tally, took));
    }
    let total = summary.iter().fold(Tally::default(), |sum, (_, tally, _)| sum.plus(*tally));
    say::heading("summary");
    for (name, tally, took) in &summary {
        let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
        let Tally { passed, failed, skipped } = tally;
        say::line(&format!(
            "{verdict:<7} {name:<24} {passed:>5} passed {failed:>4} failed {skipped:>4} skipped {:>9}",
            seconds(*took)
        ));
    }
    say::line(&format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_stage(work: Work, runs_tests: bool, show: &dyn Fn(&str)) -> Tally {
    let mut tally = Tally::default();
    let mut succeeded = true;
    match work {
        Work::Commands(commands) => {
            for mut command in commands {
                let see = |line: &str| {
                    show(line);
                    tally.read_line(line);
                };
                match process::stream(&mut command, see) {
                    Ok(good) => succeeded &= good,
                    Err(error) => {
                        show(&format!("xtask: {error:#}"));
                        succeeded = false;
                    }
                }
            }
        }
        Work::Function(function) => match function() {
            Ok(counted) => tally = counted,
            Err(error) => {
                show(&format!("xtask: {error:#}"));
                succeeded = false;
            }
        },
    }
    tally.settled(succeeded, runs_tests)
}

fn seconds(took: Duration) -> String {
    format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn stage(program: &str, argument: &str) -> Work {
        let mut command = Command::new(program);
        command.arg(argument);
        Work::Commands(vec![command])
    }

    #[test]
    fn a_stage_that_cannot_start_or_ends_badly_fails() {
        let failed = |program: &str| run_stage(stage(program, ""), false, &|_| ()).failed;
        assert_eq!((failed("/no/such/program"), failed("false"), failed("true")), (1, 1, 0));
    }

    #[test]
    fn a_stage_counts_what_its_runner_prints() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\n";
        let tally = run_stage(stage("printf", output), true, &|_| ());
        assert_eq!(tally, Tally { passed: 3, failed: 0, skipped: 0 });
    }

    #[test]
    fn a_function_that_fails_fails_its_stage() {
        let work = Work::Function(Box::new(|| anyhow::bail!("no")));
        assert_eq!(run_stage(work, false, &|_| ()).failed, 1);
    }
}
