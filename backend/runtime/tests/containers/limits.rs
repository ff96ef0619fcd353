//! Each limit against its kernel file, on whatever this host has: v1's names and v2's in one table.
//!
//! On a hybrid host everything runs twice: as it is, and by the v1 hierarchies alone. The guest has v2.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use wharf_runtime::cgroup::limits::{Disk, LimitError, apply, apply_new, disk_of, replace};
use wharf_runtime::cgroup::{Controller, Layout, LayoutKind};
use wharf_runtime::usage::{Depth, UsageReader};
use wharf_shared::container::Limits;

use crate::Case;
use crate::sandbox::{Sandbox, chain, wait, wait_until};

pub const CASES: &[Case] = &[
    ("every_limit_is_in_its_file_changes_in_use_and_can_be_lifted", one_by_one),
    ("all_limits_together_hold_in_a_new_group_and_are_lifted_together", all_at_once),
    ("a_limit_that_is_refused_leaves_all_others_as_they_were", refused),
    ("what_runs_moves_to_the_cpus_that_it_is_given", cpu_set_felt),
    ("a_cpu_quota_holds_back_what_runs", quota_felt),
    ("memory_above_the_high_mark_is_reclaimed", high_felt),
    ("a_container_out_of_memory_ends_as_one_where_the_kernel_can", oom_group_felt),
];

const MIB: u64 = 1 << 20;
/// The kernel's largest number of bytes in whole pages.
const UNLIMITED: &str = "9223372036854771712";
/// Every kernel that has huge pages on this machine has these.
const HUGE: &str = "2MB";

/// The layouts of this host.
fn worlds(layout: &Layout) -> Vec<Layout> {
    let mut worlds = vec![layout.clone()];
    if layout.kind() == LayoutKind::Hybrid {
        let legacy = Controller::ALL.into_iter().filter_map(|c| Some((c, layout.legacy(c)?.to_owned())));
        worlds.push(Layout::of(None, legacy.collect()));
    }
    worlds
}

/// A group with its limits in the kernel.
struct Subject<'a> {
    sandbox: &'a Sandbox,
    layout: Layout,
    disk: Option<Disk>,
}

impl Subject<'_> {
    fn file(&self, name: &str) -> Option<String> {
        let dirs = self.layout.hierarchies().into_iter().map(|root| root.join(&self.sandbox.spec.cgroup));
        let text = dirs.map(|dir| dir.join(name)).find_map(|file| fs::read_to_string(file).ok())?;
        // Some kernels say so of huge pages that were never limited.
        Some(
            if text.trim() == UNLIMITED && name.starts_with("hugetlb") { "max" } else { text.trim() }
                .to_owned(),
        )
    }

    fn new_group(&self, limits: &Limits) -> Result<(), LimitError> {
        apply_new(&self.layout, &self.sandbox.spec.cgroup, limits, self.disk)
    }

    fn set(&self, before: &Limits, limits: &Limits) -> Result<(), LimitError> {
        replace(&self.layout, &self.sandbox.spec.cgroup, before, limits, self.disk)
    }

    fn v2(&self) -> bool {
        self.layout.kind() == LayoutKind::V2
    }

    /// Whether a list is that of the group above.
    fn has_all(&self, file: &str, list: &str) -> bool {
        let above = self.sandbox.spec.cgroup.parent().expect("a group above");
        let roots = self.layout.hierarchies().into_iter();
        let mut files = roots.map(|root| root.join(above).join(format!("{file}.effective")));
        files.any(|file| fs::read_to_string(file).is_ok_and(|text| text.trim() == list))
    }

    /// What the root of the hierarchy may use.
    fn all(&self, unified: &str, legacy: &str) -> String {
        let root = self.layout.controller_root(Controller::CpuSet).expect("a cpuset controller");
        let text = fs::read_to_string(root.join(if self.v2() { unified } else { legacy })).expect("a list");
        text.trim().to_owned()
    }
}

/// A limit, the file it is in, and what the file then says; v1 first, then v2. `None`: not there.
struct Row {
    name: &'static str,
    files: [Option<&'static str>; 2],
    steps: [(Limits, [String; 2]); 2],
}

fn row(
    name: &'static str,
    files: [&'static str; 2],
    first: (Limits, [&str; 2]),
    second: (Limits, [&str; 2]),
) -> Row {
    let step = |(limits, says): (Limits, [&str; 2])| (limits, says.map(str::to_owned));
    Row {
        name,
        files: files.map(|file| (!file.is_empty()).then_some(file)),
        steps: [step(first), step(second)],
    }
}

fn rows(subject: &Subject<'_>) -> Vec<Row> {
    let none = Limits::default;
    let bytes = |mebibytes: u64| (mebibytes * MIB).to_string();
    let [b8, b32, b40, b64, b96] = [8, 32, 40, 64, 96].map(bytes);
    let (b8, b32, b40, b64, b96) = (b8.as_str(), b32.as_str(), b40.as_str(), b64.as_str(), b96.as_str());
    let cpus = subject.all("cpuset.cpus.effective", "cpuset.effective_cpus");
    let mems = subject.all("cpuset.mems.effective", "cpuset.effective_mems");
    let set = |list: &str| Some(list.to_owned());
    let memory = |memory: u64| Limits { memory_bytes: Some(memory * MIB), ..none() };
    let swap = |memory, swap: u64| Limits { swap_bytes: Some(swap * MIB), ..self::memory(memory) };
    let huge = |pages: u64| Limits { huge_pages: [(HUGE.to_owned(), pages * 2 * MIB)].into(), ..none() };
    let mut rows = vec![
        row(
            "cpu_millis",
            ["cpu.cfs_quota_us", "cpu.max"],
            (Limits { cpu_millis: Some(250), ..none() }, ["25000", "25000 100000"]),
            (Limits { cpu_millis: Some(1_700), ..none() }, ["170000", "170000 100000"]),
        ),
        row(
            "cpu_weight",
            ["cpu.shares", "cpu.weight"],
            // v1's shares are 1024 where the weight is 100, and 2 at least.
            (Limits { cpu_weight: Some(500), ..none() }, ["5120", "500"]),
            (Limits { cpu_weight: Some(1), ..none() }, ["10", "1"]),
        ),
        row(
            "cpus",
            ["cpuset.cpus", "cpuset.cpus"],
            (Limits { cpus: set("0"), ..none() }, ["0", "0"]),
            (Limits { cpus: set(&cpus), ..none() }, [&cpus, &cpus]),
        ),
        row(
            "mems",
            ["cpuset.mems", "cpuset.mems"],
            (Limits { mems: set("0"), ..none() }, ["0", "0"]),
            (Limits { mems: set(&mems), ..none() }, [&mems, &mems]),
        ),
        row(
            "memory_bytes",
            ["memory.limit_in_bytes", "memory.max"],
            (memory(64), [b64, b64]),
            (memory(96), [b96, b96]),
        ),
        row(
            "swap_bytes, none beside a limit of memory",
            ["memory.memsw.limit_in_bytes", "memory.swap.max"],
            (memory(64), [b64, "0"]),
            (memory(32), [b32, "0"]),
        ),
        row(
            "swap_bytes",
            ["memory.memsw.limit_in_bytes", "memory.swap.max"],
            (swap(64, 32), [b96, b32]),
            // Lower: on v1 the order of the two files matters.
            (swap(32, 8), [b40, b8]),
        ),
        row(
            "memory_reservation_bytes",
            ["memory.soft_limit_in_bytes", "memory.low"],
            (Limits { memory_reservation_bytes: Some(64 * MIB), ..none() }, [b64, b64]),
            (Limits { memory_reservation_bytes: Some(8 * MIB), ..none() }, [b8, b8]),
        ),
        row(
            "memory_high_bytes",
            ["", "memory.high"],
            (Limits { memory_high_bytes: Some(64 * MIB), ..none() }, ["", b64]),
            (Limits { memory_high_bytes: Some(96 * MIB), ..none() }, ["", b96]),
        ),
        row(
            "oom_group",
            ["", "memory.oom.group"],
            (Limits { oom_group: Some(false), ..none() }, ["", "0"]),
            (Limits { oom_group: Some(true), ..none() }, ["", "1"]),
        ),
        row(
            "pids",
            ["pids.max", "pids.max"],
            (Limits { pids: Some(77), ..none() }, ["77", "77"]),
            (Limits { pids: Some(99), ..none() }, ["99", "99"]),
        ),
    ];
    if subject.layout.unified().is_some() {
        let [one, four] = [2, 8].map(bytes);
        let says = |last: &str, first: &str, second: &str| {
            let file: &'static str = format!("hugetlb.{HUGE}.{last}").leak();
            row("huge_pages", [file, file], (huge(1), [first; 2]), (huge(4), [second; 2]))
        };
        rows.push(says("max", &one, &four));
        rows.push(says("rsvd.max", &one, &four));
    }
    rows.extend(io_rows(subject.disk.expect("the sandbox is on a disk")));
    rows
}

fn memory(mebibytes: u64) -> Limits {
    Limits { memory_bytes: Some(mebibytes * MIB), ..Limits::default() }
}

fn io_rows((major, minor): Disk) -> [Row; 4] {
    let none = Limits::default;
    let mib = u32::try_from(MIB).expect("a mebibyte");
    let limit = |name, rate: u32| match name {
        "io_read_bytes_per_s" => Limits { io_read_bytes_per_s: Some(rate.into()), ..none() },
        "io_write_bytes_per_s" => Limits { io_write_bytes_per_s: Some(rate.into()), ..none() },
        "io_read_ops_per_s" => Limits { io_read_ops_per_s: Some(rate), ..none() },
        _ => Limits { io_write_ops_per_s: Some(rate), ..none() },
    };
    let kinds = [
        ("io_read_bytes_per_s", "blkio.throttle.read_bps_device", "rbps", [mib, 2 * mib]),
        ("io_write_bytes_per_s", "blkio.throttle.write_bps_device", "wbps", [3 * mib, mib]),
        ("io_read_ops_per_s", "blkio.throttle.read_iops_device", "riops", [500, 2]),
        ("io_write_ops_per_s", "blkio.throttle.write_iops_device", "wiops", [2, 700]),
    ];
    kinds.map(|(name, legacy, word, rates)| {
        let steps = rates.map(|rate| {
            let words = ["rbps", "wbps", "riops", "wiops"]
                .map(|other| if other == word { format!("{word}={rate}") } else { format!("{other}=max") });
            let says = [format!("{major}:{minor} {rate}"), format!("{major}:{minor} {}", words.join(" "))];
            (limit(name, rate), says)
        });
        Row { name, files: [Some(legacy), Some("io.max")], steps }
    })
}

fn subject(sandbox: &Sandbox, layout: Layout) -> Subject<'_> {
    Subject { sandbox, layout, disk: disk_of(&sandbox.dir) }
}

fn one_by_one() {
    let mut sandbox = Sandbox::new("limits-each");
    sandbox.script("exec sleep 1000");
    let (_running, ..) = sandbox.start().expect("start");
    for layout in worlds(&sandbox.layout) {
        let subject = subject(&sandbox, layout);
        let nothing = Limits::default();
        subject.new_group(&nothing).expect("no limits");
        let world = usize::from(subject.v2());
        for Row { name, files, steps } in rows(&subject) {
            let Some(file) = files[world] else {
                let why = subject.set(&nothing, &steps[1].0).expect_err("v1 does not have it");
                assert!(why.to_string().contains("not available here, because"), "{name}: {why}");
                continue;
            };
            let fresh = subject.file(file);
            let mut before = nothing.clone();
            for (limits, says) in steps {
                subject.set(&before, &limits).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
                assert_eq!(subject.file(file).as_deref(), Some(says[world].as_str()), "{name} in {file}");
                before = limits;
            }
            subject.set(&before, &nothing).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            // A controller that was handed down for the limit was not there before.
            let fresh = fresh.unwrap_or_else(|| "max".to_owned());
            let lifted = subject.file(file).expect("a file");
            // Linux 6.1 lets no set that has processes be without numbers again: it has all then.
            let all = file.starts_with("cpuset.") && subject.has_all(file, &lifted);
            assert!(all || lifted == fresh, "{name} is lifted in {file}: {lifted:?}, not {fresh:?}");
        }
    }
}

fn all_at_once() {
    let mut sandbox = Sandbox::new("limits-all");
    for layout in worlds(&sandbox.layout) {
        let subject = subject(&sandbox, layout);
        let v2 = subject.v2();
        subject.new_group(&Limits::default()).expect("no limits");
        let files = |subject: &Subject<'_>| {
            let files = rows(subject).into_iter().filter_map(|row| row.files[usize::from(v2)]);
            files.map(|file| (file, subject.file(file))).collect::<BTreeMap<_, _>>()
        };
        let huge_pages = subject.layout.unified().map(|_| (HUGE.to_owned(), 2 * MIB));
        // Handed down once, the controller stays.
        let huge = Limits { huge_pages: huge_pages.clone().into_iter().collect(), ..Limits::default() };
        subject.set(&Limits::default(), &huge).expect("huge pages");
        subject.set(&huge, &Limits::default()).expect("lifted");
        let fresh = files(&subject);
        let all = Limits {
            cpu_millis: Some(900),
            cpu_weight: Some(300),
            cpus: Some("0".to_owned()),
            mems: Some("0".to_owned()),
            memory_high_bytes: v2.then_some(60 * MIB),
            memory_reservation_bytes: Some(16 * MIB),
            oom_group: Some(false),
            swap_bytes: Some(8 * MIB),
            huge_pages: huge_pages.into_iter().collect(),
            pids: Some(50),
            io_read_bytes_per_s: Some(64 * MIB),
            io_write_bytes_per_s: Some(64 * MIB),
            io_read_ops_per_s: Some(10_000),
            io_write_ops_per_s: Some(10_000),
            ..memory(64)
        };
        subject.new_group(&all).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let held = files(&subject);
        // A set of the only memory node there is is what a v1 group has anyway.
        let same: Vec<_> = held.iter().filter(|(file, text)| fresh.get(*file) == Some(*text)).collect();
        assert!(same.iter().all(|(file, _)| **file == "cpuset.mems"), "{same:?}");
        subject.set(&all, &Limits::default()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(files(&subject), fresh);
    }
    sandbox.script("echo lives");
    let limits = Limits { pids: Some(9), cpus: Some("0".to_owned()), ..memory(32) };
    apply(&sandbox.layout, &sandbox.spec.cgroup, &limits, None).expect("limits");
    assert_eq!(sandbox.run().success(), "lives\n");
}

fn refused() {
    let sandbox = Sandbox::new("limits-refused");
    for layout in worlds(&sandbox.layout) {
        let subject = subject(&sandbox, layout);
        let before =
            Limits { cpu_millis: Some(300), cpus: Some("0".to_owned()), pids: Some(20), ..memory(64) };
        subject.new_group(&before).expect("limits");
        let held = || rows(&subject).into_iter().flat_map(|row| row.files).flatten().map(|f| subject.file(f));
        let held = || held().collect::<Vec<_>>();
        let expected = held();
        let other = || Limits { cpu_weight: Some(70), pids: Some(30), ..memory(96) };
        let mut cases = vec![
            (Limits { cpus: Some("8191".to_owned()), ..other() }, "cpus: 8191 is not on this host"),
            (Limits { mems: Some("0-63".to_owned()), ..other() }, "mems: 0-63 is not on this host"),
            // The kernel's least quota is a millisecond.
            (Limits { cpu_millis: Some(9), ..other() }, "cpu_millis"),
            (Limits { memory_bytes: Some(u64::MAX), ..other() }, "memory_bytes is too large"),
            (Limits { huge_pages: [("3MB".to_owned(), 0)].into(), ..other() }, "huge_pages"),
        ];
        if !subject.v2() {
            cases.push((Limits { memory_high_bytes: Some(32 * MIB), ..other() }, "because cgroup v1"));
            cases.push((Limits { oom_group: Some(true), ..other() }, "because on cgroup v1"));
        }
        for (limits, words) in cases {
            let error = chain(&subject.set(&before, &limits).expect_err(words));
            assert!(error.contains(words), "{words:?} is not in {error:?}");
            assert_eq!(held(), expected, "{words}");
        }
        // Without a disk there is nothing to limit; all else was written by then and is taken back.
        let limits = Limits { io_read_ops_per_s: Some(5), ..other() };
        let error = replace(&subject.layout, &sandbox.spec.cgroup, &before, &limits, None);
        assert!(error.expect_err("no disk").to_string().contains("block I/O"));
        assert_eq!(held(), expected, "no disk");
    }
}

fn cpu_set_felt() {
    let mut sandbox = Sandbox::new("limits-cpus");
    sandbox.script("exec sleep 1000");
    let (_running, ..) = sandbox.start().expect("start");
    let subject = subject(&sandbox, sandbox.layout.clone());
    let pid = *sandbox.cgroup.pids().expect("pids").first().expect("a process");
    let allowed = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.expect("a list").trim().to_owned()
    };
    let (all, nothing) = (allowed(), Limits::default());
    let last = all.rsplit([',', '-']).next().expect("a CPU").to_owned();
    let one = Limits { cpus: Some(last.clone()), ..nothing.clone() };
    subject.set(&nothing, &one).expect("one CPU");
    wait_until("it may run on one CPU", || allowed() == last);
    subject.set(&one, &nothing).expect("lifted");
    wait_until("it may run on all", || allowed() == all);
}

fn quota_felt() {
    let mut sandbox = Sandbox::new("limits-quota");
    sandbox.script("while :; do :; done");
    let (_running, ..) = sandbox.start().expect("start");
    let reader = UsageReader::open(&sandbox.layout, &sandbox.spec.cgroup).expect("reader");
    let held_back = || reader.read(Depth::Live).counters.cpu_throttled_periods.value().expect("a count");
    assert_eq!(held_back(), 0);
    let (quota, nothing) = (Limits { cpu_millis: Some(50), ..Limits::default() }, Limits::default());
    let subject = subject(&sandbox, sandbox.layout.clone());
    subject.set(&nothing, &quota).expect("a quota");
    wait_until("it is held back", || held_back() >= 3);
    subject.set(&quota, &nothing).expect("lifted");
}

fn high_felt() {
    let mut sandbox = Sandbox::new("limits-high");
    let subject_layout = sandbox.layout.clone();
    if subject_layout.kind() != LayoutKind::V2 {
        println!("not on this host: memory.high is cgroup v2's");
        return;
    }
    sandbox.script("while :; do dd if=/dev/zero of=/file bs=1M count=48 2>/dev/null; done");
    let limits = Limits { memory_high_bytes: Some(16 * MIB), ..memory(64) };
    apply_new(&subject_layout, &sandbox.spec.cgroup, &limits, None).expect("limits");
    let (_running, ..) = sandbox.start().expect("start");
    let subject = subject(&sandbox, subject_layout);
    let count = |name: &str| {
        let events = subject.file("memory.events").expect("events");
        let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("a count").parse::<u64>().expect("a number")
    };
    wait_until("the mark was passed", || count("high") > 0);
    assert_eq!(count("oom_kill"), 0);
}

fn oom_group_felt() {
    // A buffer of 48 MiB, by a child of the first process.
    let script = "dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null; exit 7";
    for asked in [None, Some(false)] {
        let mut sandbox = Sandbox::new(if asked.is_none() { "limits-oom" } else { "limits-oom-one" });
        sandbox.script(script);
        let limits = Limits { oom_group: asked, ..memory(32) };
        apply_new(&sandbox.layout, &sandbox.spec.cgroup, &limits, None).expect("limits");
        let (running, ..) = sandbox.start().expect("start");
        let status = wait(&running.pidfd);
        if asked.is_none() && sandbox.layout.kind() == LayoutKind::V2 {
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
        } else {
            assert!(matches!(status, WaitStatus::Exited(_, 7)), "{status:?}");
        }
        let reader = UsageReader::open(&sandbox.layout, &sandbox.spec.cgroup).expect("reader");
        assert!(reader.read(Depth::Live).counters.oom_kills.value() >= Some(1));
    }
}
