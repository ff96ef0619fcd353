//! What reading the counters of 200 containers once a second costs.
//!
//! The bar is for what the agent does: of ten readings of a container one is full, and at each second
//! it is another tenth's turn.
//!
//! `cargo bench -p wharf-runtime`, as root. Real cgroups with a process in each and an interface
//! `eth0` in a network namespace of its own; most sleep, some work. Only the reading is timed, by the
//! CPU clock of the reading thread, so other work on the machine costs little more than cold caches.
#![expect(clippy::expect_used, reason = "a bench that cannot run fails")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use wharf_runtime::cgroup::{Cgroup, Controller, Layout, LayoutKind};
use wharf_runtime::usage::{Depth, Measured, UsageReader};

const CONTAINERS: usize = 200;
/// One in so many works.
const BUSY: usize = 10;
const SECONDS: usize = 30;
/// One reading of so many is full.
const FULL_EVERY: usize = 10;
/// Of one core.
const BAR_PERCENT: f64 = 1.0;
/// Joins the groups as its own last deed, because the kernel lets one process move itself at once.
const PROCESS: &str = "ip link add eth0 type veth peer name p0 && for file in $JOIN; do echo 0 > $file; done
if [ \"$BUSY\" ]; then while :; do sleep 0.1; done; fi
exec sleep 100000";

fn main() {
    // `cargo test --benches` builds and starts this too; there is nothing to check then.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let layout = Layout::detect().expect("cgroups");
    let fleet = Fleet::start(layout);
    print(&format!(
        "  {CONTAINERS} containers, {} of them at work, {:?}",
        CONTAINERS / BUSY,
        fleet.layout.kind()
    ));
    let readers = fleet.readers();
    let agent = cpu_percent(&readers, |turn| turn % FULL_EVERY == 0);
    let [live, full] = [false, true].map(|full| cpu_percent(&readers, |_turn| full));
    print(&format!("  live readings only: {live:.3} % of one core; full readings only: {full:.3} %"));
    for (name, file_us) in fleet.costs_by_file() {
        print(&format!("    {name:<28} {file_us:>7.2} us a reading"));
    }
    let verdict = if agent <= BAR_PERCENT { "reached" } else { "missed" };
    print(&format!(
        "  {verdict}: counters of {CONTAINERS} containers at 1 s, memory.stat at {FULL_EVERY} s: {agent:.3} % of one core (bar: at most {BAR_PERCENT} %)"
    ));
}

fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}

/// Share of a core that the readings take, one of each container a second; `is_full` is asked with the
/// sum of the second and the container's number.
fn cpu_percent(readers: &[UsageReader], is_full: impl Fn(usize) -> bool) -> f64 {
    let mut spent = Duration::ZERO;
    let mut seconds = 0.0;
    for second in 0..SECONDS {
        pause(Duration::from_secs(1));
        let before = cpu_time();
        for (number, reader) in readers.iter().enumerate() {
            let depth = if is_full(second + number) { Depth::Full } else { Depth::Live };
            let counters = reader.read(depth).counters;
            assert!(matches!(counters.cpu_usage_ns, Measured::Value(_)), "{counters:?}");
            assert!(matches!(counters.network_receive_bytes, Measured::Value(_)), "{counters:?}");
        }
        spent += cpu_time().saturating_sub(before);
        seconds += 1.0;
    }
    spent.as_secs_f64() / seconds * 100.0
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's CPU clock").into()
}

fn pause(duration: Duration) {
    let wanted = TimeSpec::from(duration);
    clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &wanted).expect("sleep");
}

/// Cgroups with a process in each.
struct Fleet {
    layout: Layout,
    root: PathBuf,
    members: Vec<(PathBuf, Child)>,
}

impl Fleet {
    fn start(layout: Layout) -> Self {
        let root = PathBuf::from(format!("wharf-bench-{}", std::process::id()));
        let mut fleet = Self { layout, root, members: Vec::new() };
        for number in 0..CONTAINERS {
            let path = fleet.root.join(number.to_string());
            let group = Cgroup::create(&fleet.layout, &path).expect("a cgroup");
            let mut command = Command::new("unshare");
            command
                .args(["--net", "sh", "-c", PROCESS])
                .env("JOIN", fleet.files_to_join(&path))
                .stdin(Stdio::null());
            if number % BUSY == 0 {
                command.env("BUSY", "1");
            }
            let child = command.spawn().expect("unshare");
            fleet.members.push((path, child));
            while group.is_empty().expect("the cgroup's processes") {
                pause(Duration::from_millis(1));
            }
        }
        // The last ones are on their way into their last hierarchies.
        pause(Duration::from_secs(1));
        fleet
    }

    fn files_to_join(&self, path: &Path) -> String {
        let legacy = self.layout.legacy_hierarchies();
        let legacy = legacy.iter().map(|(_, mount)| mount.join(path).join("tasks"));
        let unified = self.layout.unified().map(|mount| mount.join(path).join("cgroup.procs"));
        let files: Vec<_> = legacy.chain(unified).map(|file| file.display().to_string()).collect();
        files.join(" ")
    }

    fn readers(&self) -> Vec<UsageReader> {
        let open = |(path, child): &(PathBuf, Child)| {
            let pid = i32::try_from(child.id()).expect("a pid");
            UsageReader::open(&self.layout, path, Some(pid)).expect("the counters")
        };
        self.members.iter().map(open).collect()
    }

    /// CPU time of one `pread` of each file, one of each container a second.
    fn costs_by_file(&self) -> Vec<(String, f64)> {
        let v2 = self.layout.kind() == LayoutKind::V2;
        let names: &[(Controller, &str)] = if v2 {
            &[
                (Controller::Memory, "memory.current"),
                (Controller::Memory, "memory.peak"),
                (Controller::Memory, "memory.swap.current"),
                (Controller::Memory, "memory.events"),
                (Controller::Memory, "memory.stat"),
                (Controller::Pids, "pids.current"),
                (Controller::BlkIo, "io.stat"),
            ]
        } else {
            &[
                (Controller::Cpu, "cpu.stat"),
                (Controller::Memory, "memory.usage_in_bytes"),
                (Controller::Memory, "memory.max_usage_in_bytes"),
                (Controller::Memory, "memory.oom_control"),
                (Controller::Memory, "memory.stat"),
                (Controller::Pids, "pids.current"),
            ]
        };
        let mut kinds: Vec<(String, Vec<File>)> = Vec::new();
        for (controller, name) in names {
            let files = self.members.iter().filter_map(|(path, _)| {
                let group = Cgroup::open(&self.layout, path).expect("the cgroup");
                File::open(group.dir(*controller)?.join(name)).ok()
            });
            kinds.push((format!("{} {name}", controller.name()), files.collect()));
        }
        let unified = self
            .members
            .iter()
            .filter_map(|(path, _)| File::open(self.layout.unified()?.join(path).join("cpu.stat")).ok());
        kinds.push(("unified cpu.stat".to_owned(), unified.collect()));
        let network =
            self.members.iter().map(|(_, child)| File::open(format!("/proc/{}/net/dev", child.id())));
        kinds.push(("net/dev".to_owned(), network.collect::<Result<_, _>>().expect("net/dev")));
        let mut buffer = vec![0; 16 * 1024];
        let seconds = 5;
        let mut spent = vec![Duration::ZERO; kinds.len()];
        for _second in 0..seconds {
            pause(Duration::from_secs(1));
            for ((_, files), spent) in kinds.iter().zip(&mut spent) {
                let before = cpu_time();
                for file in files {
                    file.read_at(&mut buffer, 0).expect("read a counter");
                }
                *spent += cpu_time().saturating_sub(before);
            }
        }
        let each = |((name, files), spent): ((String, Vec<File>), Duration)| {
            let readings = u32::try_from(files.len()).ok().filter(|count| *count > 0)? * seconds;
            Some((name, spent.as_secs_f64() * 1e6 / f64::from(readings)))
        };
        kinds.into_iter().zip(spent).filter_map(each).collect()
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
        drop(Cgroup::open(&self.layout, &self.root).map(|group| group.remove()));
    }
}
