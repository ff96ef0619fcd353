//! From a request over the HTTP API to the first instruction of the container's program, image
//! present: with the tenant's bridge and without a network, one client after another and four at once,
//! against the same of dockerd.
//!
//! One request creates and starts (`POST /containers?start=true`). The intent is on the disk before
//! anything is built, and the opening reading before anything runs. The program itself tells when it
//! began ([`wharf_e2e::first`]), so that no look at it costs it time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wharf_e2e::figures::{self, Bar, Samples};
use wharf_e2e::first::{self, First};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{Api, World, run};
use wharf_shared::container::{ContainerView, ExitView};
use wharf_shared::tenant::TenantView;

/// Of each kind.
const ROUNDS: usize = 200;
/// Docker's are fewer: each takes a third of a second.
const DOCKER_ROUNDS: usize = 20;
const CLIENTS: usize = 4;
/// The realistic case for an agent: the host had time to rest.
const IDLE: Duration = Duration::from_millis(150);
const FROM_NOTHING_MS: f64 = 5.0;
const FROM_POOL_MS: f64 = 2.0;
/// The slowest of a hundred among four clients takes at most so many times the median.
const TAIL: f64 = 5.0;

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

/// A container's life; how long after the request its first instruction was.
fn live_once(api: &Api, spec: &Value) -> Result<Duration> {
    let begin = first::now()?;
    let view: ContainerView = api.post("/containers?start=true", spec)?;
    let path = format!("/containers/{}", view.id);
    let exit: ExitView = api.get(&format!("{path}/wait"))?;
    let printed = api.text(&format!("{path}/logs"))?;
    ensure!(exit.code == Some(0), "it ended with {exit:?}");
    api.delete(&path)?;
    first::after(begin, &printed)
}

fn spec(image: &First, tenant: &TenantView, network: &str, name: &str) -> Value {
    json!({ "image": image.image, "tenant": tenant.id, "name": name, "network": network })
}

fn one_after_another(
    world: &World,
    image: &First,
    tenant: &TenantView,
    network: &str,
    idle: Duration,
) -> Result<Samples> {
    let api = world.api().door().enter()?;
    let mut samples = Samples::default();
    for _round in 0..figures::rounds(ROUNDS) {
        world.pause(idle);
        samples.push(live_once(&api, &spec(image, tenant, network, "one"))?);
    }
    Ok(samples)
}

fn at_once(world: &World, image: &First, tenant: &TenantView, network: &str) -> Result<Samples> {
    let door = world.api().door();
    let rounds = figures::rounds(ROUNDS);
    let client = |number: usize| -> Result<Samples> {
        let api = door.enter()?;
        let mut samples = Samples::default();
        for _round in 0..rounds {
            let name = format!("client{number}");
            samples.push(live_once(&api, &spec(image, tenant, network, &name))?);
        }
        Ok(samples)
    };
    let mut all = Samples::default();
    std::thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        for client in clients {
            all.add(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// `docker run` of the same program, by the same clock.
fn docker(docker: &Dockerd, network: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for _round in 0..figures::rounds(DOCKER_ROUNDS).min(DOCKER_ROUNDS) {
        let begin = first::now()?;
        let printed = docker.run(&["run", "--rm", "--network", network, "first", first::PROGRAM])?;
        samples.push(first::after(begin, &printed)?);
    }
    Ok(samples)
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    let image = First::new(world)?;
    let peer = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    peer.import(&image.layer, "first")?;
    // Once each: pulls, first uses of a bridge and of a cgroup are not what is asked here.
    for network in ["none", "tenant"] {
        live_once(world.api(), &spec(&image, &tenant, network, "warm"))?;
    }
    figures::machine()?;
    figures::with(&peer.version)?;
    figures::tail_head("request to first instruction")?;
    for (network, theirs, name) in [("none", "none", "no network"), ("tenant", "bridge", "tenant's bridge")] {
        let hot = one_after_another(world, &image, &tenant, network, Duration::ZERO)?;
        hot.print_tail(&format!("{name}, one client"))?;
        let rested = one_after_another(world, &image, &tenant, network, IDLE)?;
        rested.print_tail(&format!("{name}, one client, after {} ms", IDLE.as_millis()))?;
        let four = at_once(world, &image, &tenant, network)?;
        four.print_tail(&format!("{name}, {CLIENTS} clients"))?;
        let peer = docker(&peer, theirs)?;
        peer.print_tail(&format!("docker run, {theirs}"))?;
        let ms = hot.median().as_secs_f64() * 1000.0;
        Bar::AtMost(FROM_NOTHING_MS).judge(&format!("{name}, median"), ms, " ms")?;
        // The supervisor is from a pool; cgroup, namespaces and root are not, so this is the same figure.
        Bar::AtMost(FROM_POOL_MS).judge(&format!("{name}, median, from the pool"), ms, " ms")?;
        let tail = figures::ratio(four.below(99), four.median());
        Bar::AtMost(TAIL).judge(&format!("{name}, {CLIENTS} clients, p99 over median"), tail, "")?;
        let rested_name = format!("{name}, median after {} ms idle", IDLE.as_millis());
        figures::median_beside(&rested_name, &rested)?;
        figures::median_beside(&format!("docker run, {theirs}, median"), &peer)?;
    }
    Ok(())
}
