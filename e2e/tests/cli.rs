//! The command line against a real agent.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use wharf_e2e::{World, run};

#[test]
fn a_container_s_life_from_the_command_line() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let script = "echo began; i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo tick $i; sleep 0.01; done; exec sleep 1000";
        let id = said(
            world,
            &["run", "-d", "--name", "web", "--cpus", "0.5", "-m", "64m", &image, "sh", "-c", script],
        )?;
        ensure!(id.trim().len() == 64, "run -d prints the id: {id}");
        let list = said(world, &["ps"])?;
        ensure!(list.contains("web") && list.contains("running"), "{list}");
        let json: serde_json::Value = serde_json::from_str(&said(world, &["ps", "--json"])?)?;
        ensure!(json.to_string().contains(id.trim()), "{json}");

        world.logged("web", "tick 50")?;
        let ticks = said(world, &["logs", "web"])?;
        assert_eq!(ticks.lines().filter(|line| line.starts_with("tick ")).count(), 50, "{ticks}");
        assert_eq!(said(world, &["exec", "web", "echo", "inside"])?, "inside\n");
        assert_eq!(wharf(world, &["exec", "web", "sh", "-c", "exit 17"])?.status.code(), Some(17));

        // Follows until the container ends.
        let follower = command(world, &["logs", "-f", "web"])?.stdout(Stdio::piped()).spawn()?;
        said(world, &["stop", "-t", "1", "web"])?;
        let followed = follower.wait_with_output()?;
        ensure!(followed.status.success(), "{followed:?}");
        ensure!(String::from_utf8_lossy(&followed.stdout).ends_with("tick 50\n"), "{followed:?}");
        said(world, &["rm", "web"])?;
        ensure!(!said(world, &["ps", "-a"])?.contains("web"), "it is still listed");
        let export = said(world, &["usage", "export", "--format", "jsonl"])?;
        ensure!(export.contains(id.trim()), "{export}");
        world.no_container_is_left()
    })
}

#[test]
fn run_ends_as_its_process_and_says_what_failed() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let output = wharf(world, &["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 23"])?;
        assert_eq!(output.status.code(), Some(23), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
        ensure!(String::from_utf8_lossy(&output.stderr).contains("err"), "{output:?}");
        let output = wharf(world, &["run", "--rm", &image, "/no/such/program"])?;
        assert_eq!(output.status.code(), Some(127), "{output:?}");
        let output = wharf(world, &["stop", "no-such-container"])?;
        ensure!(output.status.code() == Some(1) && !output.stderr.is_empty(), "{output:?}");
        Ok(())
    })
}

fn command(world: &World, arguments: &[&str]) -> Result<Command> {
    let program = world.program("wharf");
    ensure!(program.exists(), "there is no {}: run cargo build -p wharf-cli first", program.display());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("WHARF_URL", world.url())
        .env("WHARF_TOKEN", world.api().token().context("a token")?)
        .env("WHARF_TENANT", "acme")
        .env("XDG_CONFIG_HOME", world.dir())
        .stdin(Stdio::null());
    Ok(command)
}

fn wharf(world: &World, arguments: &[&str]) -> Result<Output> {
    command(world, arguments)?.output().context("run wharf")
}

/// What a command printed; it must succeed.
fn said(world: &World, arguments: &[&str]) -> Result<String> {
    let output = wharf(world, arguments)?;
    ensure!(output.status.success(), "wharf {arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}
