//! A thousand idle containers of ten tenants, each on its tenant's bridge: what the agent costs then,
//! and how long a list and a look at one take.
//!
//! `WHARF_BENCH_ROUNDS` sets how many containers each tenant has.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::figures::{self, Bar, Samples, line};
use wharf_e2e::{World, run_with};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::page::Page;
use wharf_shared::tenant::TenantView;

/// A bridge has 1,023 ports, and the busiest host rarely a single tenant.
const TENANTS: usize = 10;
const EACH: usize = 100;
const WATCHED: Duration = Duration::from_mins(1);
const LOOKS: usize = 300;
const RSS_BAR_MB: f64 = 80.0;
const CPU_BAR_PERCENT: f64 = 2.0;
const LOOK_BAR_MS: f64 = 20.0;
/// Clock ticks of /proc/<pid>/stat a second on every architecture we run on (`time(7)`).
const TICKS_A_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    if figures::wanted() { run_with(&[], measure) } else { Ok(()) }
}

fn measure(world: &World) -> Result<()> {
    let each = figures::rounds(EACH);
    let image = world.busybox()?;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let tenant = world.tenant(&format!("tenant{number}"))?;
        // The pull is not what is asked here.
        let view = world.script(&tenant, "true", json!({ "network": "none" }))?;
        world.api().delete(&format!("/containers/{}", view.id))?;
        tenants.push(tenant);
    }
    let door = world.api().door();
    let begin = Instant::now();
    let fill = |tenants: &[TenantView]| -> Result<()> {
        let api = door.enter()?;
        for (tenant, number) in tenants.iter().flat_map(|tenant| (0..each).map(move |n| (tenant, n))) {
            let spec = json!({
                "image": image, "tenant": tenant.id, "name": format!("idle{number}"),
                "command": ["sleep", "100000"], "stop_grace_s": 0,
            });
            let _: ContainerView = api.post("/containers?start=true", &spec)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let fill = &fill;
        let halves: Vec<_> =
            tenants.chunks(TENANTS / 2).map(|half| scope.spawn(move || fill(half))).collect();
        halves
            .into_iter()
            .try_for_each(|half| half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let api = door.enter()?;
    let wanted = TENANTS * each;
    let mut running = 0;
    // Longer than a test waits for anything.
    let deadline = Instant::now() + Duration::from_mins(5);
    while running < wanted && Instant::now() < deadline {
        world.pause(Duration::from_millis(200));
        running = count(&api, ContainerState::Running)?;
    }
    let up = begin.elapsed();
    let failed = count(&api, ContainerState::Failed)?;
    ensure!(running == wanted, "{running} of {wanted} containers run, {failed} failed");

    figures::machine()?;
    line(&format!("  {wanted} containers of {TENANTS} tenants, up after {:.1} s", up.as_secs_f64()))?;
    let agent = world.agent_pid()?;
    world.pause(Duration::from_secs(5));
    let (before, begin) = (cpu_ticks(agent)?, Instant::now());
    world.pause(WATCHED);
    let spent = cpu_ticks(agent)? - before;
    let percent = spent / TICKS_A_SECOND / begin.elapsed().as_secs_f64() * 100.0;
    let idle_mb = resident_mb(agent)?;

    // The agent has closed a connection that was idle so long.
    let api = door.enter()?;
    let (mut lists, mut inspects) = (Samples::default(), Samples::default());
    for look in 0..LOOKS {
        let begin = Instant::now();
        let page: Page<ContainerView> = api.get("/containers")?;
        lists.push(begin.elapsed());
        let view = page.items.get(look % page.items.len().max(1)).context("a container is listed")?;
        let begin = Instant::now();
        let _: ContainerView = api.get(&format!("/containers/{}", view.id))?;
        inspects.push(begin.elapsed());
    }
    figures::tail_head("as the client sees it")?;
    lists.print_tail("list, a page of 100")?;
    inspects.print_tail("inspect")?;
    line(&format!("  agent after the lists: {:.1} MB", resident_mb(agent)?))?;
    Bar::AtMost(RSS_BAR_MB).judge(
        &format!("agent of {running} containers that are up"),
        idle_mb,
        " MB resident",
    )?;
    Bar::AtMost(CPU_BAR_PERCENT).judge("agent", percent, " % of one core")?;
    Bar::AtMost(LOOK_BAR_MS).judge("list, p99", lists.below(99).as_secs_f64() * 1000.0, " ms")?;
    Bar::AtMost(LOOK_BAR_MS).judge("inspect, p99", inspects.below(99).as_secs_f64() * 1000.0, " ms")
}

fn count(api: &wharf_e2e::Api, state: ContainerState) -> Result<usize> {
    let mut found = 0;
    let mut cursor = None;
    loop {
        let mut path = format!("/containers?limit=1000&state={}", state.as_str());
        if let Some(cursor) = &cursor {
            path = format!("{path}&cursor={cursor}");
        }
        let page: Page<ContainerView> = api.get(&path)?;
        found += page.items.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

fn cpu_ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read the agent's CPU time")?;
    let (_, rest) = stat.rsplit_once(')').context("understand the agent's status")?;
    // Fields 14 and 15; the rest begins with field 3.
    let times = rest.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let times = times.collect::<Result<Vec<_>, _>>().context("understand the agent's CPU time")?;
    Ok(times.into_iter().map(f64::from).sum())
}

fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the agent's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse().context("understand VmRSS")?;
    Ok(f64::from(kib) * 1024.0 / 1e6)
}
