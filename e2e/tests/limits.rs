//! New limits of a running container, from the API into the kernel's files and onto what runs.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{Setup, World, run, run_in};
use wharf_shared::container::ContainerView;
use wharf_shared::live::MetricsPoint;
use wharf_shared::problem::{Problem, ProblemKind};
use wharf_shared::tenant::TenantView;
use wharf_shared::usage::Measured;

const MIB: u64 = 1 << 20;
/// What a writer says after each MiB.
const WROTE: &str = "wrote";
/// Limits of block I/O and a disk's scheduler are tried on a disk of the test's own.
const OWN_DISK: Setup<'_> = Setup { disk_mebibytes: Some(256), ..Setup::USUAL };

/// Files that hold limits, v1's and v2's.
const FILES: [&str; 21] = [
    "cpu.cfs_quota_us",
    "cpu.shares",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "pids.max",
    "devices.list",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
    "cpu.max",
    "cpu.weight",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.high",
    "memory.oom.group",
    "io.max",
];

/// A running container and its kernel files.
struct Subject<'a> {
    world: &'a World,
    view: ContainerView,
    groups: Vec<PathBuf>,
}

impl<'a> Subject<'a> {
    fn start(world: &'a World, tenant: &TenantView, script: &str, limits: &Value) -> Result<Self> {
        let view = world.start(tenant, &["sh", "-c", script], json!({ "limits": limits }))?;
        let own = |dir: &PathBuf| dir.to_string_lossy().contains(view.id.as_str());
        let groups = world.container_cgroups().into_iter().filter(own).collect();
        Ok(Self { world, view, groups })
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.groups.iter().map(|dir| dir.join(name)).find(|file| file.exists())
    }

    /// What the first of these that this kernel has says: v1's file, v2's file.
    fn kernel(&self, names: &[&str]) -> Result<String> {
        let file = names.iter().find_map(|name| self.file(name));
        let file = file.with_context(|| format!("none of {names:?} in {:?}", self.groups))?;
        Ok(fs::read_to_string(file)?.trim().to_owned())
    }

    /// Everything that the kernel holds.
    fn held(&self) -> Result<Vec<(&'static str, String)>> {
        let present = FILES.into_iter().filter(|name| self.file(name).is_some());
        present.map(|name| Ok((name, self.kernel(&[name])?))).collect()
    }

    fn path(&self) -> String {
        format!("/containers/{}", self.view.id)
    }

    fn set(&self, limits: &Value) -> Result<()> {
        let view: ContainerView = self
            .world
            .api()
            .patch(&self.path(), &json!({ "limits": limits }))
            .with_context(|| limits.to_string())?;
        let shown = serde_json::to_value(&view.spec.limits)?;
        for (name, value) in limits.as_object().context("limits")? {
            ensure!(shown.get(name) == Some(value), "{name} is shown as {shown}");
        }
        Ok(())
    }

    /// An update that must be refused and change nothing: not in the kernel, not in the record.
    fn refused(&self, body: &Value) -> Result<Problem> {
        let (held, shown) = (self.held()?, self.shown()?);
        let what = body.to_string();
        let problem = self
            .world
            .api()
            .refused(Method::PATCH, &self.path(), Some(body))
            .with_context(|| what.clone())?;
        assert_eq!(self.held()?, held, "{what}");
        assert_eq!(self.shown()?, shown, "{what}");
        Ok(problem)
    }

    fn shown(&self) -> Result<Value> {
        let view: ContainerView = self.world.api().get(&self.path())?;
        Ok(serde_json::to_value(view.spec)?)
    }

    /// How often something is in its log.
    fn count(&self, what: &str) -> Result<usize> {
        Ok(self.world.logs(self.view.id.as_str())?.matches(what).count())
    }

    /// Waits until its log has more of something than now.
    fn says_again(&self, what: &str) -> Result<()> {
        let before = self.count(what)?;
        self.world.until(&format!("it says {what:?} again"), || Ok(self.count(what)? > before))
    }

    /// A counter of the kernel's for its CPU.
    fn cpu_stat(&self, name: &str) -> Result<u64> {
        let stats = self.groups.iter().filter_map(|dir| fs::read_to_string(dir.join("cpu.stat")).ok());
        let found = stats.into_iter().find_map(|stat| {
            stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        });
        found.with_context(|| format!("{name} in cpu.stat"))
    }

    /// CPU time for each of the scheduler's periods, which it counts itself while the group is busy.
    fn cpu_us_per_period(&self) -> Result<u64> {
        const PERIODS: u64 = 20;
        // The time lies within the periods however long anything takes here, so it is never told too large.
        let (periods, used) = (self.cpu_stat("nr_periods")?, self.cpu_stat("usage_usec")?);
        self.world.until("periods have passed", || Ok(self.cpu_stat("nr_periods")? >= periods + PERIODS))?;
        let used = self.cpu_stat("usage_usec")? - used;
        Ok(used / (self.cpu_stat("nr_periods")? - periods))
    }

    /// What it writes for 100 that another does at the same time.
    fn written_for_100_of(&self, other: &Self) -> Result<usize> {
        const WRITES: usize = 64;
        let (theirs, ours) = (other.count(WROTE)?, self.count(WROTE)?);
        self.world.until("the other has written", || Ok(other.count(WROTE)? >= theirs + WRITES))?;
        let ours = self.count(WROTE)? - ours;
        Ok(ours * 100 / (other.count(WROTE)? - theirs))
    }
}

#[test]
fn every_limit_of_a_running_container_is_in_the_kernel_at_once_and_can_be_lifted() -> Result<()> {
    run_in(OWN_DISK, |world| {
        let tenant = world.tenant("acme")?;
        let subject = Subject::start(world, &tenant, "exec sleep 1000", &json!({}))?;
        let fresh = subject.held()?;
        let v2 = subject.file("memory.max").is_some();
        // v1's shares are 1024 where the weight is 100, and its swap limit is of memory and swap together.
        let cases = [
            (json!({ "cpu_millis": 250 }), "cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
            (json!({ "cpu_weight": 500 }), "cpu.shares", "5120", "cpu.weight", "500"),
            (
                json!({ "memory_bytes": 64 * MIB }),
                "memory.limit_in_bytes",
                "67108864",
                "memory.max",
                "67108864",
            ),
            (
                json!({ "memory_bytes": 64 * MIB }),
                "memory.memsw.limit_in_bytes",
                "67108864",
                "memory.swap.max",
                "0",
            ),
            (
                json!({ "memory_bytes": 64 * MIB, "swap_bytes": 32 * MIB }),
                "memory.memsw.limit_in_bytes",
                "100663296",
                "memory.swap.max",
                "33554432",
            ),
            // Lower, and higher again: on v1 the order of the two files matters.
            (
                json!({ "memory_bytes": 32 * MIB, "swap_bytes": 0 }),
                "memory.memsw.limit_in_bytes",
                "33554432",
                "memory.swap.max",
                "0",
            ),
            (
                json!({ "memory_bytes": 96 * MIB }),
                "memory.limit_in_bytes",
                "100663296",
                "memory.max",
                "100663296",
            ),
            (json!({ "pids": 77 }), "pids.max", "77", "pids.max", "77"),
            (json!({ "cpus": "0" }), "cpuset.cpus", "0", "cpuset.cpus", "0"),
            (json!({ "mems": "0" }), "cpuset.mems", "0", "cpuset.mems", "0"),
            (
                json!({ "memory_reservation_bytes": 32 * MIB }),
                "memory.soft_limit_in_bytes",
                "33554432",
                "memory.low",
                "33554432",
            ),
        ];
        for (limits, v1_file, v1_value, v2_file, v2_value) in cases {
            subject.set(&limits)?;
            let (file, value) = if v2 { (v2_file, v2_value) } else { (v1_file, v1_value) };
            assert_eq!(subject.kernel(&[file])?, value, "{limits}");
        }
        let rate = json!({ "io_read_bytes_per_s": 2 * MIB, "io_write_bytes_per_s": MIB });
        subject.set(&rate)?;
        let disk = disk_of(world)?;
        let (read, written) = if v2 {
            let line = subject.kernel(&["io.max"])?;
            (line.contains("rbps=2097152"), line.contains("wbps=1048576"))
        } else {
            let says =
                |file, rate| Ok::<_, anyhow::Error>(subject.kernel(&[file])? == format!("{disk} {rate}"));
            (says("blkio.throttle.read_bps_device", 2 * MIB)?, says("blkio.throttle.write_bps_device", MIB)?)
        };
        ensure!(read && written, "{:?}", subject.held()?);
        subject.set(&json!({ "io_read_ops_per_s": 900, "io_write_ops_per_s": 800 }))?;
        if v2 {
            let line = subject.kernel(&["io.max"])?;
            ensure!(line.contains("riops=900 wiops=800") && line.contains("rbps=max"), "{line}");
            subject.set(&json!({ "memory_high_bytes": 32 * MIB, "oom_group": false }))?;
            assert_eq!(subject.kernel(&["memory.high"])?, "33554432");
            assert_eq!(subject.kernel(&["memory.oom.group"])?, "0");
        } else {
            assert_eq!(subject.kernel(&["blkio.throttle.read_iops_device"])?, format!("{disk} 900"));
            assert_eq!(subject.kernel(&["blkio.throttle.write_iops_device"])?, format!("{disk} 800"));
        }

        let all = json!({
            "cpu_millis": 1500, "cpu_weight": 50, "memory_bytes": 128 * MIB, "swap_bytes": MIB, "pids": 33,
            "io_read_bytes_per_s": 3 * MIB, "io_write_bytes_per_s": 4 * MIB,
        });
        subject.set(&all)?;
        let huge = json!({ "huge_pages": { "2MB": 4 * MIB } });
        if Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            subject.set(&huge)?;
            assert_eq!(subject.kernel(&["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"])?, "4194304");
            subject.set(&all)?;
            ensure!(subject.kernel(&["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"])? != "4194304");
        }
        ensure!(
            subject.held()?.iter().zip(&fresh).filter(|(now, before)| now != before).count() >= 5,
            "{:?}",
            subject.held()?
        );
        // Limits are given whole: what an update leaves out is lifted.
        subject.set(&json!({}))?;
        let mut lifted = subject.held()?;
        let mut fresh = fresh;
        // A container that was made without a limit of processes has the agent's default.
        for held in [&mut lifted, &mut fresh] {
            held.retain(|(name, _)| *name != "pids.max");
        }
        assert_eq!(lifted, fresh);
        assert_eq!(subject.kernel(&["pids.max"])?, "max");
        world.api().delete(&format!("{}?force=true", subject.path()))?;
        world.no_container_is_left()
    })
}

#[test]
fn what_runs_feels_its_new_limits() -> Result<()> {
    run_in(OWN_DISK, |world| {
        let tenant = world.tenant("acme")?;

        let busy = Subject::start(world, &tenant, "while :; do :; done", &json!({}))?;
        busy.set(&json!({ "cpu_millis": 100 }))?;
        // A tenth of a CPU is 10 ms in each period of 100 ms.
        let used = busy.cpu_us_per_period()?;
        ensure!(used < 15_000, "10,000 us a period were allowed, {used} were used");
        world.until("it is told how long it was held back", || {
            let point: MetricsPoint = world.api().get(&format!("{}/metrics", busy.path()))?;
            let strain = point.strain.context("what it suffers")?;
            let told = [strain.cpu_throttled_periods, strain.cpu_throttled_us].map(Measured::value);
            Ok(told.iter().all(|told| *told > Some(0)) && strain.oom_kills == Measured::Value(0))
        })?;
        busy.set(&json!({ "cpu_millis": 800 }))?;
        world.until("more CPU is used", || Ok(busy.cpu_us_per_period()? > 15_000))?;
        world.api().delete(&format!("{}?force=true", busy.path()))?;

        // Each dd has a buffer of 48 MiB.
        let hungry = "while :; do dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null; echo code=$?; sleep 0.1; done";
        // The shell is to outlive them on v2 too.
        let one = |memory: u64| json!({ "memory_bytes": memory * MIB, "oom_group": false });
        let hungry = Subject::start(world, &tenant, hungry, &one(32))?;
        hungry.says_again("code=137")?;
        hungry.set(&one(128))?;
        hungry.says_again("code=0")?;
        // v1 refuses it while a buffer is in use.
        world.until("the limit is lower", || Ok(hungry.set(&one(32)).is_ok()))?;
        hungry.says_again("code=137")?;
        world.api().delete(&format!("{}?force=true", hungry.path()))?;

        let forks =
            "while :; do sh -c 'for i in 1 2 3 4 5 6; do sleep 0.1 & done; wait; echo all'; sleep 0.1; done";
        let forks = Subject::start(world, &tenant, forks, &json!({}))?;
        forks.says_again("all")?;
        forks.set(&json!({ "pids": 4 }))?;
        forks.says_again("can't fork")?;
        forks.set(&json!({ "pids": 40 }))?;
        forks.says_again("all")?;
        world.api().delete(&format!("{}?force=true", forks.path()))?;

        // Direct, because v1 counts what is buffered for nobody.
        let writes = "while :; do dd if=/dev/zero of=/file bs=64k count=16 oflag=direct 2>/dev/null && echo wrote; done";
        let free = Subject::start(world, &tenant, writes, &json!({}))?;
        let writer = Subject::start(world, &tenant, writes, &json!({ "io_write_bytes_per_s": 1024 * MIB }))?;
        world.until("both write alike", || Ok(writer.written_for_100_of(&free)? > 50))?;
        writer.set(&json!({ "io_write_bytes_per_s": MIB / 4 }))?;
        world.until("it writes less", || Ok(writer.written_for_100_of(&free)? < 25))?;
        writer.set(&json!({}))?;
        world.until("both write alike again", || Ok(writer.written_for_100_of(&free)? > 50))?;
        for subject in [free, writer] {
            world.api().delete(&format!("{}?force=true", subject.path()))?;
        }
        world.no_container_is_left()
    })
}

#[test]
fn what_this_kernel_cannot_limit_is_refused_and_nothing_else_of_the_update_holds() -> Result<()> {
    run_in(OWN_DISK, |world| {
        let tenant = world.tenant("acme")?;
        // 40 MiB that cannot be given back.
        let script =
            "dd if=/dev/zero of=/dev/shm/ballast bs=1M count=40 2>/dev/null; echo filled; exec sleep 1000";
        let subject = Subject::start(
            world,
            &tenant,
            script,
            &json!({ "cpu_millis": 900, "memory_bytes": 96 * MIB, "pids": 50 }),
        )?;
        world.logged(subject.view.id.as_str(), "filled")?;

        // Only one scheduler shares a disk by weight, and the disk has another.
        let scheduler = Scheduler::of(&disk_of(world)?)?;
        scheduler.set("none")?;
        let weight = json!({ "limits": { "cpu_millis": 400, "memory_bytes": 80 * MIB, "io_weight": 500 } });
        let problem = subject.refused(&weight)?;
        ensure!(problem.kind == ProblemKind::Invalid && problem.to_string().contains("bfq"), "{problem}");
        // With a name that is taken, limits that were fine do not hold either.
        let spec = world.spec(&tenant, &["true"], json!({ "name": "taken" }))?;
        let _: ContainerView = world.api().post("/containers", &spec)?;
        let problem =
            subject.refused(&json!({ "name": "taken", "limits": { "cpu_millis": 300, "pids": 9 } }))?;
        assert_eq!(problem.kind, ProblemKind::NameTaken, "{problem}");
        world.api().delete("/containers/taken")?;
        // v2 would kill for room instead.
        if subject.file("memory.limit_in_bytes").is_some() {
            let lower = json!({ "limits": { "cpu_millis": 500, "memory_bytes": 16 * MIB, "pids": 60 } });
            let problem = subject.refused(&lower)?;
            ensure!(problem.to_string().contains("memory_bytes"), "{problem}");
        }
        // What the host does not have, also where no kernel would have said so.
        for (limits, words) in [
            (json!({ "cpus": "8191" }), "8191 is not on this host"),
            (json!({ "mems": "0-63" }), "0-63 is not on this host"),
            (json!({ "huge_pages": { "3MB": 0 } }), "huge_pages"),
        ] {
            let problem = subject.refused(&json!({ "limits": limits }))?;
            ensure!(problem.kind == ProblemKind::Invalid && problem.to_string().contains(words), "{problem}");
            let spec = world.spec(&tenant, &["true"], json!({ "limits": limits }))?;
            let problem = world.api().refused(Method::POST, "/containers", Some(&spec))?;
            ensure!(problem.kind == ProblemKind::Invalid && problem.to_string().contains(words), "{problem}");
        }
        if subject.file("memory.high").is_none() {
            for limits in [json!({ "memory_high_bytes": 32 * MIB }), json!({ "oom_group": true })] {
                let problem = subject.refused(&json!({ "limits": limits }))?;
                ensure!(problem.to_string().contains("is not available here, because"), "{problem}");
            }
        }
        // What a process has from its start.
        for fixed in
            [json!({ "devices": ["/dev/fuse"] }), json!({ "open_files": 99 }), json!({ "shm_bytes": MIB })]
        {
            let problem = subject.refused(&json!({ "limits": fixed }))?;
            assert_eq!(problem.kind, ProblemKind::Conflict, "{problem}");
            let name = fixed.as_object().and_then(|object| object.keys().next()).context("a name")?;
            ensure!(problem.to_string().contains(name) && problem.to_string().contains("stop"), "{problem}");
        }

        if scheduler.set("bfq").is_ok() {
            subject.set(&json!({ "memory_bytes": 96 * MIB, "io_weight": 1_200 }))?;
            assert_eq!(number(&subject.kernel(&["blkio.bfq.weight", "io.bfq.weight"])?), "200");
            subject.set(&json!({ "memory_bytes": 96 * MIB }))?;
            assert_eq!(number(&subject.kernel(&["blkio.bfq.weight", "io.bfq.weight"])?), "100");
        }
        drop(scheduler);

        world.api().act(&format!("{}/stop", subject.path()), &json!({ "grace_s": 0 }))?;
        subject.set(&json!({ "devices": ["/dev/fuse"], "open_files": 99 }))?;
        let command = ["sh", "-c", "ls /dev/fuse; ulimit -n; exec sleep 1000"];
        let limits = json!({ "limits": { "devices": ["/dev/fuse"], "open_files": 99 } });
        let view = world.start(&tenant, &command, limits)?;
        world.until("it says what it has", || Ok(world.logs(view.id.as_str())?.lines().count() >= 2))?;
        assert_eq!(world.logs(view.id.as_str())?, "/dev/fuse\n99\n");
        let list = world
            .container_cgroups()
            .iter()
            .find_map(|dir| fs::read_to_string(dir.join("devices.list")).ok());
        if let Some(list) = list {
            ensure!(list.lines().any(|line| line.starts_with("c 10:229 ")), "{list}");
        }
        for id in [&subject.view.id, &view.id] {
            world.api().delete(&format!("/containers/{id}?force=true"))?;
        }
        world.no_container_is_left()
    })
}

#[test]
fn limits_beyond_a_quota_or_beyond_sense_leave_the_old_ones_in_the_kernel() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let quota = json!({ "quota": { "cpu_millis": 1_000, "memory_bytes": 128 * MIB, "pids": 500 } });
        let _: TenantView = world.api().patch("/tenants/acme", &quota)?;
        let limits = json!({ "cpu_millis": 300, "memory_bytes": 64 * MIB, "pids": 20 });
        let subject = Subject::start(world, &tenant, "exec sleep 1000", &limits)?;
        let other = Subject::start(world, &tenant, "exec sleep 1000", &limits)?;

        for beyond in [
            json!({ "cpu_millis": 701, "memory_bytes": 64 * MIB }),
            json!({ "cpu_millis": 300, "memory_bytes": 64 * MIB + 1 }),
        ] {
            let problem = subject.refused(&json!({ "limits": beyond }))?;
            assert_eq!(problem.kind, ProblemKind::QuotaExceeded, "{problem}");
        }
        let whole = |field: &str, value: Value| {
            let mut limits = limits.clone();
            if let Some(limits) = limits.as_object_mut() {
                limits.insert(field.to_owned(), value);
            }
            json!({ "limits": limits })
        };
        let cases = [
            // A quota wants a limit.
            (json!({ "limits": { "cpu_millis": 300 } }), "memory_bytes"),
            (json!({ "limits": {} }), "cpu_millis"),
            (whole("cpu_millis", json!(-1)), "cpu_millis"),
            (whole("cpu_millis", json!(0)), "cpu_millis"),
            (whole("cpu_millis", json!(4_000_000_000_u32)), "cpu_millis"),
            (whole("cpu_weight", json!(0)), "cpu_weight"),
            (whole("cpu_weight", json!(10_001)), "cpu_weight"),
            (whole("memory_bytes", json!(1)), "memory_bytes"),
            (whole("memory_bytes", json!(u64::MAX)), "memory_bytes"),
            (whole("memory_bytes", json!(-1)), "memory_bytes"),
            (whole("memory_bytes", json!("64m")), "memory_bytes"),
            (whole("swap_bytes", json!(u64::MAX)), "swap_bytes"),
            (whole("pids", json!(0)), "pids"),
            (whole("pids", json!(5_000_000_000_u64)), "pids"),
            (whole("io_read_bytes_per_s", json!(1)), "io_read_bytes_per_s"),
            (whole("io_write_bytes_per_s", json!(u64::MAX)), "io_write_bytes_per_s"),
            (whole("io_read_ops_per_s", json!(0)), "io_read_ops_per_s"),
            (whole("cpus", json!("1-0")), "cpus"),
            (whole("mems", json!("")), "mems"),
            (whole("memory_high_bytes", json!(64 * MIB + 1)), "memory_high_bytes"),
            (whole("memory_reservation_bytes", json!(64 * MIB + 1)), "memory_reservation_bytes"),
            (whole("huge_pages", json!({ "2MB": 1 })), "huge_pages"),
            (whole("oom_group", json!("yes")), "oom_group"),
            (whole("io_weight", json!(0)), "io_weight"),
            (whole("io_weight", json!(10_001)), "io_weight"),
            (whole("shm_bytes", json!(0)), "shm_bytes"),
            (whole("open_files", json!(0)), "open_files"),
            (whole("devices", json!(["/etc/passwd"])), "devices"),
            (whole("memory_mb", json!(64)), "memory_mb"),
            (json!({ "limit": limits }), "limit"),
        ];
        for (body, named) in cases {
            let problem = subject.refused(&body)?;
            ensure!(matches!(problem.status, 400 | 422), "{body}: {problem}");
            ensure!(problem.to_string().contains(named), "{body}: {named} is not named: {problem}");
        }
        // What fits still goes through.
        subject.set(&json!({ "cpu_millis": 700, "memory_bytes": 64 * MIB, "pids": 20 }))?;
        for subject in [subject, other] {
            world.api().delete(&format!("{}?force=true", subject.path()))?;
        }
        world.no_container_is_left()
    })
}

/// `major:minor` of the disk that the agent's state is on.
fn disk_of(world: &World) -> Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let device = fs::metadata(world.state_dir())?.dev();
    Ok(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

/// A disk's scheduler, put back at the end.
struct Scheduler {
    file: PathBuf,
    before: String,
}

impl Scheduler {
    fn of(disk: &str) -> Result<Self> {
        let file = Path::new("/sys/dev/block").join(disk).join("queue/scheduler");
        let all = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let before = all.split_once('[').and_then(|(_, rest)| rest.split_once(']')).context("a scheduler")?.0;
        Ok(Self { file, before: before.to_owned() })
    }

    fn set(&self, name: &str) -> Result<()> {
        fs::write(&self.file, name).with_context(|| format!("bring the scheduler {name} into use"))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        drop(self.set(&self.before));
    }
}

/// BFQ says `default 200` on some kernels.
fn number(text: &str) -> String {
    text.split_whitespace().last().unwrap_or_default().to_owned()
}
