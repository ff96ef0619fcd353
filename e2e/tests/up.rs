//! The README's commands: `cargo xtask up`, Ctrl-C, `up` again, `down`, `down --purge`.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{Setup, run_in};
use wharf_shared::container::{ContainerState, ContainerView};

#[test]
fn up_survives_ctrl_c_and_down_leaves_what_the_readme_says() -> Result<()> {
    run_in(Setup { by_xtask: true, ..Setup::USUAL }, |world| {
        let tenant = world.tenant("acme")?;
        let served =
            world.start(&tenant, &["sleep", "1000"], json!({ "ports": [{ "container_port": 80 }] }))?;
        let path = format!("/containers/{}", served.id);

        // Nobody ends the first one to run a second.
        let twice =
            world.xtask("up").args(["--listen", "127.0.0.1:0"]).output().context("up, a second time")?;
        let said = String::from_utf8_lossy(&twice.stderr);
        ensure!(!twice.status.success() && said.contains("another agent"), "{}: {said}", twice.status);
        let still: ContainerView = world.api().get(&path)?;
        assert_eq!(still.pid, served.pid);

        ensure!(world.interrupt_agent()?.success(), "Ctrl-C is no failure");
        ensure!(world.process_runs(served.pid)?, "the container ended with the agent");
        world.start_agent()?;
        let adopted: ContainerView = world.api().get(&path)?;
        assert_eq!((adopted.state, adopted.pid), (ContainerState::Running, served.pid));

        // `down` ends everything, whether an agent runs or not, and keeps the state.
        world.interrupt_agent()?;
        succeed(&mut world.xtask("down"))?;
        ensure!(!world.process_runs(served.pid)?, "the container outlived `down`");
        ensure!(world.container_cgroups().is_empty(), "left: {:?}", world.container_cgroups());
        world.start_agent()?;
        let kept: ContainerView = world.api().get(&path)?;
        ensure!(!kept.state.is_live(), "it says {:?}", kept.state);
        ensure!(!world.readings()?.is_empty(), "the readings are gone");

        world.interrupt_agent()?;
        succeed(world.xtask("down").arg("--purge"))?;
        world.registry.borrow_mut().stop()?;
        world.nothing_is_left()?;
        succeed(world.xtask("down").arg("--purge"))
    })
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
