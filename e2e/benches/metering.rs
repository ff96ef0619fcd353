//! What reading the counters of a thousand containers costs, in the agent's rhythm: every second what
//! has changed, and at each second all of another tenth of them, with what they suffer. Beside it: if all
//! of them had run in between.
//!
//! Real groups of ten tenants with a process in each; most sleep, some work. Only the reading is timed, by
//! the CPU clock of the reading thread, so that other work on the machine costs little more than cold
//! caches. Beside it what their networks' counters cost, which the kernel gives all at once.
//!
//! `WHARF_BENCH_ROUNDS` sets how many each tenant has, `WHARF_BENCH_SECONDS` how long they are read.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use wharf_e2e::figures::{self, Bar, line};
use wharf_network::{Attachment, Desired, MacAddress, Network, NetworkConfig, TenantNetwork, TrafficReader};
use wharf_runtime::cgroup::{Cgroup, Layout};
use wharf_runtime::usage::{Depth, Measured, UsageReader};

const TENANTS: usize = 10;
const EACH: usize = 100;
/// One in so many works.
const BUSY: usize = 50;
const SECONDS: u32 = 30;
/// One reading of so many is full.
const FULL_EVERY: u32 = 10;
/// At one of so many, what is suffered is read even if nothing has run.
const STRAIN_EVERY: u32 = 60;
/// Of one core, without the network.
const BAR_PERCENT: f64 = 1.0;
/// Joins the groups as its own deed, because the kernel lets one process move itself at once.
const PROCESS: &str = "for file in $JOIN; do echo 0 > $file; done
if [ \"$BUSY\" ]; then while :; do sleep 0.1; done; fi
exec sleep 100000";

fn main() -> Result<()> {
    if figures::wanted() { measure() } else { Ok(()) }
}

fn measure() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("ask how many files may be open")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("allow as many open files as may be")?;
    let fleet = Fleet::start(Layout::detect()?, TENANTS * figures::rounds(EACH))?;
    let count = fleet.members.len();
    figures::machine()?;
    line(&format!(
        "  {count} groups of {TENANTS} tenants, {} of them at work, {:?}",
        count.div_ceil(BUSY),
        fleet.layout.kind()
    ))?;
    let groups = fleet.readers()?;
    let traffic = counted(count)?;
    let seconds = std::env::var("WHARF_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let seconds = seconds.unwrap_or(SECONDS);
    let [mut own, mut network, mut ran] = [Duration::ZERO; 3];
    for second in 0..seconds {
        pause(Duration::from_secs(1))?;
        own += spent(&groups, second, Depth::Changed)?;
        let before = cpu_time()?;
        ensure!(traffic.all()?.len() == count, "not all networks were counted");
        network += cpu_time()?.saturating_sub(before);
    }
    for second in 0..seconds {
        pause(Duration::from_secs(1))?;
        ran += spent(&groups, second, Depth::Live)?;
    }
    let share = |spent: Duration| spent.as_secs_f64() * 100.0 / f64::from(seconds);
    let unit = " % of one core";
    Bar::AtMost(BAR_PERCENT).judge(&format!("counters of {count} groups"), share(own), unit)?;
    figures::beside("their network's counters, every second", share(network), unit)?;
    figures::beside("the same groups if all of them ran", share(ran), unit)
}

/// Counters of so many networks, as if their containers were attached.
fn counted(count: usize) -> Result<Arc<TrafficReader>> {
    let subnet = |tenant: usize| format!("10.{tenant}.0.0/16").parse();
    let tenant = |index: usize| -> Result<TenantNetwork> {
        let tenant_id = format!("tnt_{index}");
        Ok(TenantNetwork { tenant_id, index: u32::try_from(index)?, subnet: subnet(index)? })
    };
    let attachment = |number: usize| -> Result<Attachment> {
        let [tenant, place] = [number % TENANTS, number / TENANTS + 2].map(u8::try_from);
        let address = Ipv4Addr::new(10, tenant?, 0, place?);
        Ok(Attachment {
            container_id: format!("{number:09x}").repeat(7),
            tenant_id: format!("tnt_{}", number % TENANTS),
            address,
            mac: MacAddress::of(address),
            ports: Vec::new(),
        })
    };
    let desired = Desired {
        tenants: (0..TENANTS).map(tenant).collect::<Result<_>>()?,
        attachments: (0..count).map(attachment).collect::<Result<_>>()?,
    };
    let network = Network::open(&NetworkConfig::new("wharf-bench"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(network.apply(&desired))?;
    Ok(network.traffic())
}

/// CPU time of reading all of them once.
fn spent(readers: &[UsageReader], second: u32, usual: Depth) -> Result<Duration> {
    let before = cpu_time()?;
    for (turn, reader) in (second..).zip(readers) {
        let full = turn % FULL_EVERY == 0;
        let counters = reader.read(if full { Depth::Full } else { usual }).counters;
        ensure!(matches!(counters.cpu_usage_ns, Measured::Value(_)), "{counters:?}");
        if full {
            reader.strain(usual == Depth::Live || turn % STRAIN_EVERY == 0);
        }
    }
    Ok(cpu_time()?.saturating_sub(before))
}

fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's CPU clock")?.into())
}

fn pause(duration: Duration) -> Result<()> {
    let wanted = TimeSpec::from(duration);
    clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &wanted).context("sleep")?;
    Ok(())
}

/// Groups with a process in each.
struct Fleet {
    layout: Layout,
    root: PathBuf,
    members: Vec<(PathBuf, Child)>,
}

impl Fleet {
    fn start(layout: Layout, count: usize) -> Result<Self> {
        let root = PathBuf::from(format!("wharf-bench-{}", std::process::id()));
        let mut fleet = Self { layout, root, members: Vec::new() };
        for number in 0..count {
            let tenant = fleet.root.join(format!("tenant{}", number % TENANTS));
            let path = tenant.join(number.to_string());
            let group = Cgroup::create(&fleet.layout, &path)?;
            let mut command = Command::new("sh");
            command.args(["-c", PROCESS]).env("JOIN", fleet.files_to_join(&path));
            if number % BUSY == 0 {
                command.env("BUSY", "1");
            }
            let child = command.stdin(Stdio::null()).spawn().context("start a process")?;
            fleet.members.push((path, child));
            while group.is_empty()? {
                pause(Duration::from_millis(1))?;
            }
        }
        // The last ones are on their way into their last hierarchies.
        pause(Duration::from_secs(1))?;
        Ok(fleet)
    }

    fn files_to_join(&self, path: &Path) -> String {
        let legacy = self.layout.legacy_hierarchies();
        let legacy = legacy.iter().map(|(_, mount)| mount.join(path).join("tasks"));
        let unified = self.layout.unified().map(|mount| mount.join(path).join("cgroup.procs"));
        let files: Vec<_> = legacy.chain(unified).map(|file| file.display().to_string()).collect();
        files.join(" ")
    }

    fn readers(&self) -> Result<Vec<UsageReader>> {
        let open = |(path, _): &(PathBuf, Child)| {
            let reader = UsageReader::open(&self.layout, path)?;
            // As the agent does at a start: from then on it is the change that is read.
            reader.read(Depth::Full);
            reader.strain(true);
            Ok(reader)
        };
        self.members.iter().map(open).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (path, child) in &mut self.members {
            // Those of them that are at work have children.
            let group = Cgroup::open(&self.layout, path);
            drop(group.as_ref().map(Cgroup::kill));
            drop(child.wait());
            drop(group.map(|group| group.remove()));
        }
        for tenant in 0..TENANTS {
            drop(
                Cgroup::open(&self.layout, &self.root.join(format!("tenant{tenant}")))
                    .map(|group| group.remove()),
            );
        }
        drop(Cgroup::open(&self.layout, &self.root).map(|group| group.remove()));
    }
}
