//! The stages of `cargo xtask test` and `cargo xtask soak`, as data.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Tally;
use crate::{criu, debian, focus, guest, packages, process, say, tidy, web};

/// One stage.
pub(crate) struct Stage {
    /// What it is called in headings and after `--stage`.
    pub(crate) name: &'static str,
    /// Whether it fails when no test ran in it.
    pub(crate) runs_tests: bool,
    /// What it does.
    pub(crate) work: Work,
}

/// What a stage does.
pub(crate) enum Work {
    /// Runs these, all of them, whatever the others' outcome.
    Commands(Vec<Command>),
    /// Calls this, which counts its tests itself.
    Function(Box<dyn FnOnce() -> Result<Tally>>),
}

/// Where and how the tests are run.
pub(crate) struct Plan {
    repo: PathBuf,
    filter: Option<String>,
    soak: bool,
}

impl Plan {
    /// The tests of this checkout whose names contain `filter`; with full counts for a soak.
    pub(crate) fn new(repo: &Path, filter: Option<&str>, soak: bool) -> Self {
        Self { repo: repo.to_path_buf(), filter: filter.map(str::to_owned), soak }
    }

    /// Installs and fetches everything that the stages need, while there still is a network.
    pub(crate) fn prepare(&self) -> Result<()> {
        packages::ensure(packages::AGENT)?;
        packages::ensure(packages::TEST)?;
        packages::ensure(web::PACKAGES)?;
        packages::ensure(guest::PACKAGES)?;
        packages::ensure(focus::PACKAGES)?;
        say::line("Fetching crates");
        process::run(process::cargo(&self.repo).args(["fetch", "--locked"]))?;
        if let Some(web) = self.playwright() {
            say::line("Fetching the browser tests' node modules");
            packages::install_node_modules(&web)?;
        }
        criu::fetch(&self.repo)?;
        focus::fetch(&self.repo)?;
        debian::fetch(&self.repo)?;
        say::line("Fetching the guest's kernel");
        guest::fetch(&self.repo)
    }

    /// Every stage, in order: the quick ones that find most first.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        let mut stages = vec![
            self.cargo("fmt", false, &["fmt", "--all", "--check"]),
            Stage { name: "tidy", runs_tests: false, work: self.tidy() },
            self.dashboard(),
            self.cargo(
                "clippy",
                false,
                &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
            ),
            self.tests("unit tests", &["--workspace", "--lib", "--bins"]),
            self.tests("doc tests", &["--workspace", "--doc"]),
            self.tests("integration tests", &["--workspace", "--exclude", "wharf-e2e", "--test", "*"]),
        ];
        stages.extend(self.end_to_end());
        stages
    }

    /// The stages with long runs, for a soak.
    pub(crate) fn long_stages(&self) -> Vec<Stage> {
        let mut stages = vec![
            self.dashboard(),
            self.tests("integration tests", &["--workspace", "--exclude", "wharf-e2e", "--test", "*"]),
        ];
        stages.extend(self.end_to_end());
        stages
    }

    fn end_to_end(&self) -> Vec<Stage> {
        let mut stages = Vec::new();
        // The agent that the tests start is the debug build, with the dashboard inside.
        let mut build = process::cargo(&self.repo);
        build.args(["build", "--locked", "-p", "wharf-agent", "-p", "wharf-shim", "-p", "wharf-cli"]);
        stages.push(Stage { name: "build", runs_tests: false, work: Work::Commands(vec![build]) });
        stages.push(self.tests("end-to-end tests", &["-p", "wharf-e2e"]));
        if let Some(web) = self.playwright() {
            let mut command = Command::new("npx");
            command.args(["playwright", "test"]).args(self.filter_as("--grep")).current_dir(web);
            stages.push(self.stage("browser tests", command));
        }
        stages.push(Stage { name: "cgroup v2 guest", runs_tests: true, work: self.guest() });
        stages
    }

    fn tests(&self, name: &'static str, what: &[&str]) -> Stage {
        let mut command = process::cargo(&self.repo);
        command.args(["test", "--locked", "--no-fail-fast"]).args(what).args(&self.filter);
        Stage { runs_tests: name != "doc tests", ..self.stage(name, command) }
    }

    fn stage(&self, name: &'static str, mut command: Command) -> Stage {
        command.env("CARGO_NET_OFFLINE", "true").env("WHARF_E2E_STRICT", "1").env("CI", "true");
        if self.soak {
            command.env("WHARF_SOAK", "1");
        }
        let command = process::without_network(&command);
        Stage { name, runs_tests: true, work: Work::Commands(vec![command]) }
    }

    fn cargo(&self, name: &'static str, runs_tests: bool, arguments: &[&str]) -> Stage {
        let mut command = process::cargo(&self.repo);
        command.args(arguments);
        Stage { name, runs_tests, work: Work::Commands(vec![command]) }
    }

    fn tidy(&self) -> Work {
        let repo = self.repo.clone();
        Work::Function(Box::new(move || tidy::check(&repo).map(|()| Tally::default())))
    }

    /// Comes before everything that compiles the agent, which embeds it.
    fn dashboard(&self) -> Stage {
        let repo = self.repo.clone();
        let work = Work::Function(Box::new(move || web::build(&repo, true).map(|()| Tally::default())));
        Stage { name: "dashboard", runs_tests: false, work }
    }

    fn filter_as(&self, option: &'static str) -> Vec<&OsStr> {
        self.filter.iter().flat_map(|filter| [OsStr::new(option), OsStr::new(filter)]).collect()
    }

    /// The browser tests' directory.
    fn playwright(&self) -> Option<PathBuf> {
        let dir = self.repo.join("e2e/web");
        dir.join("package-lock.json").is_file().then_some(dir)
    }

    /// The suites that need a kernel with cgroup v2 only; the guest has no network.
    fn guest(&self) -> Work {
        let (repo, filter, soak) = (self.repo.clone(), self.filter.clone(), self.soak);
        Work::Function(Box::new(move || guest::run(&repo, filter.as_deref(), soak)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_stage_is_cut_off_from_the_network() {
        for stage in Plan::new(Path::new("/repo"), None, false).stages() {
            if let (true, Work::Commands(commands)) = (stage.runs_tests, &stage.work) {
                assert!(commands.iter().all(|command| command.get_program() == "unshare"), "{}", stage.name);
            }
        }
    }

    #[test]
    fn a_filter_reaches_the_runners_and_a_soak_their_environment() {
        let stages = Plan::new(Path::new("/repo"), Some("ports"), true).long_stages();
        assert_eq!(stages.first().map(|stage| stage.name), Some("dashboard"), "the agent embeds it");
        let tests = stages.iter().find(|stage| stage.name == "integration tests").map(|stage| &stage.work);
        let Some(Work::Commands(commands)) = tests else { panic!("the tests are a command") };
        let command = commands.first().expect("one command");
        assert_eq!(command.get_args().last(), Some(OsStr::new("ports")));
        assert!(command.get_envs().any(|(key, _)| key == "WHARF_SOAK"));
    }
}
