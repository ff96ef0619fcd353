//! A container that does nothing, from its creation to its removal: ours through the HTTP API against
//! `docker run --rm`, and without a network against a bare OCI runtime.
//!
//! Ours takes four requests (create, start, wait, remove) and counts everything that a bill needs:
//! the intent, the events, the audit rows and the readings are on the disk before each is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wharf_e2e::figures::{self, Bar, Samples, head, ratio};
use wharf_e2e::peers::{Bundle, Dockerd};
use wharf_e2e::{World, run};
use wharf_shared::container::{ContainerView, ExitView};
use wharf_shared::tenant::TenantView;

/// Of each kind, one after another in turn.
const ROUNDS: usize = 50;
/// At most this share of the time of `docker run --rm`.
const DOCKER_SHARE: f64 = 0.1;
const COMMAND: [&str; 1] = ["/bin/true"];

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

/// Our containers of one kind.
#[derive(Default)]
struct Ours {
    whole: Samples,
    phases: [Samples; 4],
}

impl Ours {
    fn live_once(&mut self, world: &World, tenant: &TenantView, network: &str) -> Result<()> {
        let spec = world.spec(tenant, &COMMAND, json!({ "network": network }))?;
        let api = world.api();
        let mut at = [Duration::ZERO; 5];
        let begin = Instant::now();
        let view: ContainerView = api.post("/containers", &spec)?;
        at[1] = begin.elapsed();
        let path = format!("/containers/{}", view.id);
        api.act(&format!("{path}/start"), &Value::Null)?;
        at[2] = begin.elapsed();
        let exit: ExitView = api.get(&format!("{path}/wait"))?;
        at[3] = begin.elapsed();
        api.delete(&path)?;
        at[4] = begin.elapsed();
        ensure!(exit.code == Some(0), "it ended with {exit:?}");
        self.whole.push(at[4]);
        for (phase, pair) in self.phases.iter_mut().zip(at.windows(2)) {
            phase.push(pair[1].saturating_sub(pair[0]));
        }
        Ok(())
    }

    fn print(&self, name: &str) -> Result<()> {
        self.whole.print(name)?;
        for (phase, name) in self.phases.iter().zip(["create", "start", "end known", "remove"]) {
            phase.print(&format!("    {name}"))?;
        }
        Ok(())
    }
}

fn timed(samples: &mut Samples, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    act()?;
    samples.push(begin.elapsed());
    Ok(())
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    let runc = Bundle::new(world, "runc", &COMMAND)?;
    let docker_run = |network: &str| {
        let arguments = ["run", "--rm", "--network", network, "busybox", "/bin/true"];
        docker.run(&arguments).map(drop)
    };
    // Once each: pulls, first uses of a bridge and of a cgroup are not what is asked here.
    Ours::default().live_once(world, &tenant, "tenant")?;
    Ours::default().live_once(world, &tenant, "none")?;
    docker_run("bridge")?;
    docker_run("none")?;
    runc.run()?;

    let (mut bridge, mut none) = (Ours::default(), Ours::default());
    let (mut docker_bridge, mut docker_none, mut bare) =
        (Samples::default(), Samples::default(), Samples::default());
    figures::machine()?;
    let rounds = figures::rounds(ROUNDS);
    for _round in 0..rounds {
        bridge.live_once(world, &tenant, "tenant")?;
        timed(&mut docker_bridge, || docker_run("bridge"))?;
        none.live_once(world, &tenant, "none")?;
        timed(&mut docker_none, || docker_run("none"))?;
        timed(&mut bare, || runc.run())?;
    }

    figures::with(&docker.version)?;
    figures::with(&figures::version("runc")?)?;
    head(&format!("{rounds} times /bin/true, in turn"))?;
    bridge.print("ours, tenant's bridge")?;
    docker_bridge.print("docker run --rm")?;
    none.print("ours, no network")?;
    docker_none.print("docker run --rm --network none")?;
    bare.print("runc run, no network")?;
    let share = ratio(bridge.whole.median(), docker_bridge.median());
    Bar::AtMost(DOCKER_SHARE).judge("share of docker run --rm", share, "")?;
    Bar::AtMost(1.0).judge(
        "without a network, share of runc run",
        ratio(none.whole.median(), bare.median()),
        "",
    )
}
