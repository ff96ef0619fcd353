//! Starts a second through the HTTP API, sustained: four clients that create, start, wait for the end
//! of and remove a container again and again, against as many that run `docker run --rm`.
//!
//! Nothing may be left afterwards: processes, mounts, cgroups, links, rules or directories.
//! `WHARF_BENCH_SECONDS` makes it shorter.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::figures::{self, Bar, line};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{Api, World, run};
use wharf_shared::container::{ContainerView, ExitView};
use wharf_shared::tenant::TenantView;

const SECONDS: u64 = 60;
/// Docker's rate is steady from its first seconds on.
const DOCKER_SECONDS: u64 = 20;
const CLIENTS: usize = 4;
const TIMES_DOCKER: f64 = 10.0;
/// Without a network, a second.
const STARTS: f64 = 150.0;

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

fn live_once(api: &Api, image: &str, tenant: &TenantView, network: &str, name: &str) -> Result<()> {
    let spec = json!({
        "image": image, "tenant": tenant.id, "name": name, "network": network, "command": ["/bin/true"],
    });
    let view: ContainerView = api.post("/containers?start=true", &spec)?;
    let path = format!("/containers/{}", view.id);
    let exit: ExitView = api.get(&format!("{path}/wait"))?;
    ensure!(exit.code == Some(0), "it ended with {exit:?}");
    api.delete(&path)
}

/// How often a second `live`, given a client's number, was done by all clients together.
fn rate(duration: Duration, live: impl Fn(usize) -> Result<u32> + Sync) -> Result<f64> {
    let begin = Instant::now();
    let done = std::thread::scope(|scope| {
        let live = &live;
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || live(number))).collect();
        let mut done = 0;
        for client in clients {
            done += client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(done)
    })?;
    let taken = begin.elapsed();
    ensure!(taken >= duration, "the clients ended early");
    Ok(f64::from(done) / taken.as_secs_f64())
}

fn measure(world: &World) -> Result<()> {
    let seconds = std::env::var("WHARF_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let tenant = world.tenant("bench")?;
    let image = world.busybox()?;
    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    let ours = |network: &str| {
        live_once(world.api(), &image, &tenant, network, "warm")?;
        let door = world.api().door();
        rate(duration, |number| {
            let (api, begin) = (door.enter()?, Instant::now());
            let mut done = 0;
            while begin.elapsed() < duration {
                live_once(&api, &image, &tenant, network, &format!("client{number}"))?;
                done += 1;
            }
            Ok(done)
        })
    };
    let theirs = |network: &str| {
        let duration = duration.min(Duration::from_secs(DOCKER_SECONDS));
        let docker = &docker;
        rate(duration, |_number| {
            let begin = Instant::now();
            let mut done = 0;
            while begin.elapsed() < duration {
                docker.run(&["run", "--rm", "--network", network, "busybox", "/bin/true"])?;
                done += 1;
            }
            Ok(done)
        })
    };
    figures::machine()?;
    figures::with(&docker.version)?;
    line(&format!("  {CLIENTS} clients, {} s each", duration.as_secs()))?;
    let (our_none, our_bridge) = (ours("none")?, ours("tenant")?);
    world.no_container_is_left()?;
    line("  nothing of them is left")?;
    let (docker_none, docker_bridge) = (theirs("none")?, theirs("bridge")?);
    Bar::AtLeast(STARTS).judge("no network, nothing left", our_none, " starts a second")?;
    Bar::AtLeast(TIMES_DOCKER).judge("no network", our_none / docker_none, " times docker's")?;
    Bar::AtLeast(TIMES_DOCKER).judge("bridge", our_bridge / docker_bridge, " times docker's")?;
    figures::beside("bridge", our_bridge, " starts a second")?;
    figures::beside("docker run --rm, no network", docker_none, " starts a second")?;
    figures::beside("docker run --rm, bridge", docker_bridge, " starts a second")
}
