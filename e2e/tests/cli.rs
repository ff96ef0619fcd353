//! The command line against a real agent.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use wharf_e2e::{Image, World, run};

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

#[test]
fn images_volumes_tokens_and_everything_else_from_the_command_line() -> Result<()> {
    run(|world| {
        said(world, &["tenant", "create", "acme"])?;
        ensure!(said(world, &["tenant", "ls"])?.contains("acme"), "the tenant is not listed");
        let image = world.busybox()?;
        said(world, &["pull", &image])?;
        ensure!(said(world, &["images"])?.contains(&image), "the image is not listed");
        ensure!(said(world, &["image", "history", &image])?.contains("wharf-e2e"), "no history");
        said(world, &["image", "tag", &image, "local/mine:1"])?;
        let dir = world.dir().join("import");
        std::fs::create_dir_all(&dir)?;
        let archive = dir.join("image.tar");
        Image::busybox(&dir)?.archive(&archive)?;
        let path = archive.to_str().context("a path")?;
        said(world, &["import", "--reference", "local/box:1", path])?;

        said(world, &["volume", "create", "box"])?;
        let script = "echo kept > /data/file; echo began; exec sleep 1000";
        said(world, &["run", "-d", "--name", "one", "-v", "box:/data", "local/box:1", "sh", "-c", script])?;
        world.logged("one", "began")?;
        let refused = wharf(world, &["volume", "rm", "box"])?;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && why.contains("in use"), "{why}");
        let stats = said(world, &["stats", "--no-stream"])?;
        ensure!(stats.contains("one"), "{stats}");
        let stats: serde_json::Value =
            serde_json::from_str(&said(world, &["stats", "--no-stream", "--json"])?)?;
        ensure!(stats.to_string().contains("cpu_millis"), "{stats}");
        said(world, &["rm", "-f", "one"])?;
        let read = ["run", "--rm", "-v", "box:/data:ro", "local/mine:1", "sh", "-c", "cat /data/file"];
        assert_eq!(said(world, &read)?, "kept\n");
        said(world, &["volume", "rm", "box"])?;
        ensure!(!said(world, &["volume", "ls"])?.contains("box"), "the volume is still listed");
        said(world, &["image", "rm", "local/mine:1"])?;

        // A new token works, and no longer once it is revoked.
        let secret = said(world, &["token", "create", "ci"])?;
        let secret =
            secret.split_whitespace().find(|word| word.len() >= 40).context("no secret is printed")?;
        let with_token = || -> Result<Output> {
            Ok(command(world, &["tenant", "ls"])?.env("WHARF_TOKEN", secret).output()?)
        };
        ensure!(with_token()?.status.success(), "the new token is refused");
        let tokens: serde_json::Value = serde_json::from_str(&said(world, &["token", "ls", "--json"])?)?;
        let ci = tokens.as_array().and_then(|all| all.iter().find(|token| token["name"] == "ci"));
        let id = ci.and_then(|token| token["id"].as_str()).with_context(|| format!("no ci in {tokens}"))?;
        said(world, &["token", "rm", id])?;
        ensure!(!with_token()?.status.success(), "the revoked token still works");

        let events = said(world, &["events"])?;
        ensure!(events.contains("container.started") && events.contains("container.removed"), "{events}");
        ensure!(said(world, &["audit"])?.contains("container.create"), "no audit");
        let doctor = wharf(world, &["doctor"])?;
        let report = String::from_utf8_lossy(&doctor.stdout);
        ensure!(report.contains("cgroup"), "{doctor:?}");
        ensure!(said(world, &["completions", "bash"])?.contains("_wharf"), "no completions");
        world.no_container_is_left()
    })
}

#[test]
fn a_quick_process_s_output_and_code_always_arrive() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        for round in 0..30_u32 {
            let script = format!("echo out {round}; echo err {round} >&2; exit {round}");
            let mut arguments = vec!["run", "--rm"];
            if round % 2 == 1 {
                arguments.push("-i");
            }
            arguments.extend([image.as_str(), "sh", "-c", &script]);
            let output = wharf(world, &arguments)?;
            assert_eq!(output.status.code(), Some(i32::try_from(round)?), "{arguments:?}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("out {round}\n"), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), format!("err {round}\n"), "{output:?}");
        }
        world.no_container_is_left()
    })
}

#[test]
fn what_is_piped_into_run_comes_out_whole() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        // More than is kept for a container that does not run yet.
        let text: String =
            (0..100_000).fold(String::new(), |text, number| text + "line " + &number.to_string() + "\n");
        let file = world.dir().join("input");
        std::fs::write(&file, &text)?;
        let output = command(world, &["run", "-i", "--rm", &image, "cat"])?
            .stdin(std::fs::File::open(&file)?)
            .output()
            .context("run wharf")?;
        ensure!(output.status.success(), "{:?}", String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.stdout == text.as_bytes(),
            "{} of {} bytes came back",
            output.stdout.len(),
            text.len()
        );
        world.no_container_is_left()
    })
}

#[test]
fn run_ends_with_docker_s_codes_when_nothing_ran() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let missing = format!("{image}-not-there");
        let cases: [(&[&str], i32); 6] = [
            (&["run", "--rm", &image, "/etc/passwd"], 126),
            (&["run", "--rm", &image, "/etc"], 126),
            (&["run", "--rm", &image, "no-such-program"], 127),
            (&["run", "--rm", &missing, "true"], 125),
            (&["run", "--rm", "-m", "1k", &image, "true"], 125),
            (&["run", "--rm", "-v", "/no/such/path:/x", &image, "true"], 125),
        ];
        for (arguments, code) in cases {
            let output = wharf(world, arguments)?;
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
            ensure!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
        }
        world.no_container_is_left()
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
