//! A further process in a running container, from the request over the HTTP API to its first
//! instruction, against `docker exec`.
//!
//! Ours takes two requests: one that describes it and one that opens the WebSocket of its streams.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::figures::{self, Bar, Samples};
use wharf_e2e::first::{self, First};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{Api, Socket, World, run};
use wharf_shared::container::ExecView;

const ROUNDS: usize = 200;
const DOCKER_ROUNDS: usize = 20;
const IDLE: Duration = Duration::from_millis(150);
const BAR_MS: f64 = 1.5;

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

/// How long after the first request, and after the opening of the socket.
fn ours(api: &Api, container: &str) -> Result<(Duration, Duration)> {
    let asked = first::now()?;
    let exec: ExecView =
        api.post(&format!("/containers/{container}/exec"), &json!({ "command": [first::PROGRAM] }))?;
    let opened = first::now()?;
    let mut socket = Socket::open(api, &format!("/containers/{container}/exec/{}", exec.exec_id))?;
    let code = socket.exit_code()?;
    ensure!(code == 0, "it ended with {code}");
    Ok((first::after(asked, &socket.output)?, first::after(opened, &socket.output)?))
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    let image = First::new(world)?;
    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    docker.import(&image.layer, "first")?;
    let more = json!({ "image": image.image, "network": "none" });
    let view = world.start(&tenant, &["sleep", "100000"], more)?;
    let peer = docker.run(&["run", "-d", "--network", "none", "first", "sleep", "100000"])?;
    let api = world.api().door().enter()?;
    ours(&api, view.id.as_str())?;
    figures::machine()?;
    figures::with(&docker.version)?;
    figures::tail_head("request to first instruction")?;
    let [mut whole, mut opened, mut rested, mut theirs] = [const { Samples::new() }; 4];
    for _round in 0..figures::rounds(ROUNDS) {
        let (from_request, from_socket) = ours(&api, view.id.as_str())?;
        whole.push(from_request);
        opened.push(from_socket);
    }
    for _round in 0..(figures::rounds(ROUNDS) / 4).max(1) {
        world.pause(IDLE);
        rested.push(ours(&api, view.id.as_str())?.0);
    }
    for _round in 0..figures::rounds(DOCKER_ROUNDS).min(DOCKER_ROUNDS) {
        let begin = first::now()?;
        theirs.push(first::after(begin, &docker.run(&["exec", peer.trim(), first::PROGRAM])?)?);
    }
    whole.print_tail("both requests")?;
    opened.print_tail("  of it from the opening of the socket")?;
    rested.print_tail(&format!("both requests, after {} ms", IDLE.as_millis()))?;
    theirs.print_tail("docker exec")?;
    Bar::AtMost(BAR_MS).judge("exec, median", whole.median().as_secs_f64() * 1000.0, " ms")?;
    figures::median_beside(&format!("exec, median after {} ms", IDLE.as_millis()), &rested)?;
    figures::median_beside("docker exec, median", &theirs)
}
