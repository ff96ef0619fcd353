//! The command line on another machine: TLS, a pinned certificate, and a line that breaks.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{HOST_ADDRESS, Neighbour, Relay, Setup, World, run_in};

const TLS: Setup<'_> = Setup { tls: true, ..Setup::USUAL };
const LINES: usize = 3_000;

#[test]
fn logs_are_followed_from_another_machine_over_a_line_that_breaks() -> Result<()> {
    run_in(TLS, |world| {
        let tenant = world.tenant("acme")?;
        // A part is there before anybody asks, a part comes while the line breaks.
        let script = format!(
            "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; \
             [ $i -lt {half} ] || [ $((i % 50)) -gt 0 ] || sleep 0.05; done",
            half = LINES / 2
        );
        let view = world.start(&tenant, &["sh", "-c", &script], json!({ "name": "talker" }))?;
        world.logged(view.id.as_str(), "line 1000\n")?;

        let neighbour = Neighbour::new()?;
        let relay = Relay::start(HOST_ADDRESS, SocketAddr::from(([127, 0, 0, 1], world.port)), 24_000)?;
        let context = format!("https://{HOST_ADDRESS}:{}", relay.port());
        add_context(world, &neighbour, &context, &world.fingerprint()?)?;
        let output = ended(wharf(world, &neighbour, &["logs", "-f", "talker"]))?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        for (index, line) in text.lines().enumerate() {
            ensure!(line == format!("line {}", index + 1), "line {} is {line:?}", index + 1);
        }
        assert_eq!(text.lines().count(), LINES, "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(relay.cut() >= 3, "the line broke only {} times", relay.cut());
        Ok(())
    })
}

#[test]
fn a_certificate_with_another_fingerprint_is_refused() -> Result<()> {
    run_in(TLS, |world| {
        world.tenant("acme")?;
        let neighbour = Neighbour::new()?;
        let url = format!("https://{HOST_ADDRESS}:{}", world.port);
        let own = world.fingerprint()?;
        add_context(world, &neighbour, &url, &own)?;
        let output = ended(wharf(world, &neighbour, &["ps"]))?;
        ensure!(output.status.success(), "the right one: {output:?}");

        let wrong = format!("sha256:{}", "5a".repeat(32));
        add_context(world, &neighbour, &url, &wrong)?;
        let output = ended(wharf(world, &neighbour, &["ps"]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "a wrong fingerprint was accepted");
        ensure!(said.contains(&own) && said.contains(&wrong), "both are named: {said}");

        // Without a fingerprint the public authorities decide, and they know nothing of it.
        let mut plain = wharf(world, &neighbour, &["ps"]);
        let token = world.api().token().context("a token")?;
        plain.env("WHARF_URL", &url).env("WHARF_TOKEN", token);
        plain.env("XDG_CONFIG_HOME", world.dir().join("nobody"));
        let output = ended(plain)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("--fingerprint"), "it says what to do: {said}");

        // And plain text gets no answer where TLS is spoken.
        let plain = format!("http://{HOST_ADDRESS}:{}/healthz", world.port);
        let output = ended(curl(&neighbour, &plain))?;
        ensure!(!output.status.success(), "{output:?}");
        Ok(())
    })
}

fn curl(neighbour: &Neighbour, url: &str) -> Command {
    let mut command = neighbour.command("curl");
    command.args(["--silent", "--fail", "--max-time", "5", url]);
    command
}

fn wharf(world: &World, neighbour: &Neighbour, arguments: &[&str]) -> Command {
    // One that does not come to its end is a failure, not a test that hangs.
    let mut command = neighbour.command("timeout");
    command.arg("90").arg(world.program("wharf"));
    command.args(arguments).env("XDG_CONFIG_HOME", world.dir()).env("WHARF_TENANT", "acme");
    for variable in ["WHARF_URL", "WHARF_TOKEN", "WHARF_CONTEXT"] {
        command.env_remove(variable);
    }
    command
}

fn ended(mut command: Command) -> Result<Output> {
    command.output().with_context(|| format!("run {command:?}"))
}

/// Makes the agent known on the other machine, as its owner would who reads the fingerprint there.
fn add_context(world: &World, neighbour: &Neighbour, url: &str, fingerprint: &str) -> Result<()> {
    let arguments = ["context", "add", "far", url, "--token-stdin", "--fingerprint", fingerprint];
    let mut child =
        wharf(world, neighbour, &arguments).stdin(Stdio::piped()).spawn().context("start wharf")?;
    let mut input = child.stdin.take().context("its input")?;
    std::io::Write::write_all(&mut input, world.api().token().context("a token")?.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "the context was not added");
    Ok(())
}
