//! The agent as a service: what `wharf install` puts where, and containers in a control group that was handed over.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{World, run, run_with};
use wharf_shared::container::ContainerView;

#[test]
fn an_installation_below_a_root_is_whole_and_goes_without_a_trace() -> Result<()> {
    run(|world| {
        let root = world.dir().join("stage");
        let programs = world.program("wharf").parent().context("a directory")?.to_owned();
        // Where the units say that the programs are, so that systemd can judge them here.
        let prefix = world.dir().join("prefix");
        fs::create_dir(&prefix)?;
        symlink(&programs, prefix.join("bin"))?;
        let install = |word: &str| {
            let place = ["--root".as_ref(), root.as_os_str(), "--prefix".as_ref(), prefix.as_os_str()];
            wharf(world, word, &place)
        };
        for _ in 0..2 {
            succeed(&install("install")?)?;
        }
        let bin = root.join(prefix.strip_prefix("/")?).join("bin");
        for name in ["wharfd", "wharf-shim", "wharf"] {
            let mode = fs::metadata(bin.join(name)).with_context(|| format!("look at {name}"))?.permissions();
            assert_eq!(mode.mode() & 0o777, 0o755, "{name}");
        }
        let units = root.join("etc/systemd/system");
        let units = ["wharfd.service", "wharf-containers.service"].map(|unit| units.join(unit));
        // Keys and values that it does not know are told, and ignored.
        let judged =
            Command::new("systemd-analyze").arg("verify").args(&units).output().context("judge units")?;
        let said = String::from_utf8_lossy(&judged.stderr);
        ensure!(judged.status.success() && !said.contains("wharf"), "{judged:?}");

        let settings = root.join("etc/wharf/wharfd.toml");
        let check = Command::new(bin.join("wharfd"))
            .args(["config", "check", "--config"])
            .arg(&settings)
            .output()
            .context("check the settings")?;
        succeed(&check)?;
        let shown = String::from_utf8_lossy(&check.stdout);
        ensure!(shown.contains("wharf.slice/wharf-containers.service"), "{shown}");

        let refused = wharf(world, "install", &["--listen".as_ref(), "0.0.0.0:80".as_ref()])?;
        let why = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && why.contains("/etc/wharf/wharfd.toml"), "{why}");

        succeed(&install("uninstall")?)?;
        let left: Vec<PathBuf> = files(&root)?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
}

#[test]
fn containers_are_in_the_group_that_was_handed_over_and_leave_it_as_it_was() -> Result<()> {
    let parent = format!("wharftest{}.slice/containers.service", std::process::id());
    run_with(&[&format!("cgroup_parent={parent}")], |world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &["sleep", "1000"], json!({}))?;
        let pid = view.pid.context("a process")?;
        let group = format!(":/{parent}/{}/{}/", world.instance, tenant.id);
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        ensure!(cgroups.lines().any(|line| line.contains(&group)), "{group} is not in {cgroups}");
        world.kill_agent()?;
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        assert_eq!(adopted.pid, view.pid);
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        world.no_container_is_left()
    })?;
    let slice = Path::new(&parent).parent().context("a slice")?;
    let trees = fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path());
    for tree in trees.chain([PathBuf::from("/sys/fs/cgroup")]) {
        ensure!(!tree.join(slice).exists(), "{} is left in {}", slice.display(), tree.display());
    }
    Ok(())
}

fn wharf(world: &World, word: &str, more: &[&std::ffi::OsStr]) -> Result<Output> {
    let mut command = Command::new(world.program("wharf"));
    command.arg(word).args(more).stdin(Stdio::null()).output().context("run wharf")
}

fn succeed(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Every file below a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
