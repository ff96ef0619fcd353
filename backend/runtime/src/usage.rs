//! The counters of one container: what bills and charts are made of.
//!
//! [`UsageReader`] keeps the files open and reads each by one `pread` (13.8 µs for all, against
//! 59.7 µs with open and close), and as few of them as a [`Depth`] needs. A counter is a [`Measured`]: read, impossible on this host, not
//! asked for, or unreadable with the reason. Nothing is ever 0 because it could not be read.
//!
//! Sources: `cgroup-v2.rst`, `cgroup-v1/{cpuacct,memory,pids}.rst`. On a
//! hybrid host CPU time comes from the unified group, which counts a process from its very birth.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, CgroupError, Controller, Layout, LayoutKind};

/// Bytes for the largest file that is read (`memory.stat` has about 1.5 KiB).
const BUFFER_BYTES: usize = 16 * 1024;

/// One counter at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// What the kernel counts.
    Value(u64),
    /// This host (or this container: no network of its own) has no such counter.
    NotMeasurable,
    /// It exists, but no reading has asked for it yet.
    NotRead,
    /// It should be there, but reading failed with this error number.
    Unreadable(i32),
}

impl Measured {
    /// Returns the value, if there is one.
    pub fn value(self) -> Option<u64> {
        match self {
            Self::Value(value) => Some(value),
            Self::NotMeasurable | Self::NotRead | Self::Unreadable(_) => None,
        }
    }

    fn map(self, change: impl FnOnce(u64) -> u64) -> Self {
        match self {
            Self::Value(value) => Self::Value(change(value)),
            other => other,
        }
    }
}

/// All counters of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// CPU time, in all.
    pub cpu_usage_ns: Measured,
    /// CPU time in user mode.
    pub cpu_user_ns: Measured,
    /// CPU time in the kernel.
    pub cpu_system_ns: Measured,
    /// Periods of the CPU quota in which the container ran.
    pub cpu_periods: Measured,
    /// Of these, the ones in which it was held back.
    pub cpu_throttled_periods: Measured,
    /// Time that it was held back.
    pub cpu_throttled_ns: Measured,
    /// Memory charged now.
    pub memory_current_bytes: Measured,
    /// Most memory ever charged.
    pub memory_peak_bytes: Measured,
    /// Memory charged now, less file pages that are not in use.
    pub memory_working_set_bytes: Measured,
    /// Swap in use now.
    pub memory_swap_bytes: Measured,
    /// Processes that the kernel killed for lack of memory.
    pub oom_kills: Measured,
    /// Processes and threads now.
    pub pids_current: Measured,
    /// Bytes read from block devices.
    pub io_read_bytes: Measured,
    /// Bytes written to block devices.
    pub io_write_bytes: Measured,
    /// Read operations.
    pub io_reads: Measured,
    /// Write operations.
    pub io_writes: Measured,
}

/// What a container suffers under its limits and beside others, in all since its group was made.
/// Nothing of it is billed, so it is no part of a [`Reading`] and may be read more seldom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strain {
    /// Times that memory was reclaimed because the group was above its high mark.
    pub memory_high_events: Measured,
    /// Times that memory was to be charged beyond the limit.
    pub memory_max_events: Measured,
    /// Time in which some of it waited for a CPU (PSI), in microseconds.
    pub cpu_pressure_us: Measured,
    /// Time in which some of it waited for memory.
    pub memory_pressure_us: Measured,
    /// Time in which some of it waited for block I/O.
    pub io_pressure_us: Measured,
}

/// How much of a container a reading reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As [`Depth::Live`] if the group has used CPU time since the last reading. If not, nothing of it has
    /// run, and what only its own processes change is as that reading found it: CPU times, throttling,
    /// memory, and how many processes there are. Memory that the host took from it in the meantime is seen
    /// later. For readings a clock tick or more apart: the kernel accounts CPU time at each.
    Changed,
    /// All but what costs most or tells nothing new so often. What comes from `memory.stat` (inactive file
    /// pages, which the working set leaves out, and on v1 swap) and the peak of memory, which the kernel
    /// keeps, are as the last full reading found them, and [`Measured::NotRead`] before the first.
    Live,
    /// Everything.
    Full,
}

/// All counters, with the clocks of the moment before the first was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub realtime_us: i64,
    /// The counters.
    pub counters: Counters,
}

/// Why a container cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Its group cannot be opened.
    #[error("cannot open the container's group")]
    Group(#[from] CgroupError),
    /// A file is there but cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Reads one container's counters through files that it keeps open.
#[derive(Debug)]
pub struct UsageReader {
    /// `cpu.stat` of the unified group.
    unified_cpu: Source,
    /// v1: `cpuacct.usage`, `.usage_user`, `.usage_sys`; not opened where there is a unified group.
    legacy_cpu: [Source; 3],
    /// `cpu.stat` of the group with the CPU controller, for throttling.
    throttle: Source,
    throttle_names: ThrottleNames,
    memory_current: Source,
    memory_peak: Source,
    memory_stat: Source,
    /// Names in `memory.stat`: inactive file pages, and swap where it is counted there.
    inactive_name: &'static str,
    swap: Swap,
    last: Mutex<Last>,
    oom: Source,
    pids: Source,
    io: Source,
    /// v1: `memory.failcnt`.
    failures: Source,
    /// Of the unified group, which has the files of PSI on a hybrid host too. These are opened when they
    /// are read: a thousand containers have too few descriptors to keep.
    unified: Source,
}

/// What later readings that read less take over.
#[derive(Debug)]
struct Last {
    counters: Option<Counters>,
    /// Of the last full reading.
    inactive: Measured,
    swap_in_stat: Measured,
    peak: Measured,
    /// What was suffered, and the CPU time of the last reading before.
    strain: Option<(Option<Measured>, Strain)>,
}

#[derive(Debug)]
struct ThrottleNames {
    time: &'static str,
    unit_ns: u64,
}

#[derive(Debug)]
enum Swap {
    File(Source),
    InStat(&'static str),
}

impl UsageReader {
    /// Opens the counters of the group at `relative`.
    ///
    /// # Errors
    /// When the group is nowhere, or a file is there but cannot be opened. A file that this kernel
    /// does not have makes its counters [`Measured::NotMeasurable`].
    pub fn open(layout: &Layout, relative: &Path) -> Result<Self, UsageError> {
        let group = Cgroup::open(layout, relative)?;
        let v2 = layout.kind() == LayoutKind::V2;
        let open = |controller: Controller, v2_name: &str, v1_name: &str| {
            let name = if v2 { v2_name } else { v1_name };
            if name.is_empty() {
                return Ok(Source::Absent);
            }
            group.dir(controller).map_or(Ok(Source::Absent), |dir| Source::open(&dir.join(name)))
        };
        let unified_cpu =
            group.unified_dir().map_or(Ok(Source::Absent), |dir| Source::open(&dir.join("cpu.stat")))?;
        let cpuacct = |name| {
            if unified_cpu.is_open() { Ok(Source::Absent) } else { open(Controller::CpuAcct, "", name) }
        };
        let throttle_names = if v2 {
            ThrottleNames { time: "throttled_usec", unit_ns: 1000 }
        } else {
            ThrottleNames { time: "throttled_time", unit_ns: 1 }
        };
        let memory_stat = open(Controller::Memory, "memory.stat", "memory.stat")?;
        let memory_peak = open(Controller::Memory, "memory.peak", "memory.max_usage_in_bytes")?;
        let unread = |file: &Source| if file.is_open() { Measured::NotRead } else { Measured::NotMeasurable };
        let last = Last {
            counters: None,
            inactive: unread(&memory_stat),
            swap_in_stat: unread(&memory_stat),
            peak: unread(&memory_peak),
            strain: None,
        };
        Ok(Self {
            legacy_cpu: [
                cpuacct("cpuacct.usage")?,
                cpuacct("cpuacct.usage_user")?,
                cpuacct("cpuacct.usage_sys")?,
            ],
            unified_cpu,
            throttle: open(Controller::Cpu, "cpu.stat", "cpu.stat")?,
            throttle_names,
            memory_current: open(Controller::Memory, "memory.current", "memory.usage_in_bytes")?,
            memory_peak,
            memory_stat,
            last: Mutex::new(last),
            inactive_name: if v2 { "inactive_file" } else { "total_inactive_file" },
            swap: if v2 {
                Swap::File(open(Controller::Memory, "memory.swap.current", "")?)
            } else {
                Swap::InStat("total_swap")
            },
            oom: open(Controller::Memory, "memory.events", "memory.oom_control")?,
            pids: open(Controller::Pids, "pids.current", "pids.current")?,
            // v1 charges buffered writes to nobody, so its figures are not what was written.
            io: open(Controller::BlkIo, "io.stat", "")?,
            failures: open(Controller::Memory, "", "memory.failcnt")?,
            unified: group.unified_dir().map_or(Ok(Source::Absent), |dir| Source::open(&dir))?,
        })
    }

    /// Reads the counters.
    pub fn read(&self, depth: Depth) -> Reading {
        let (boot_ns, realtime_us) = now();
        Reading { boot_ns, realtime_us, counters: self.counters(depth, &mut buffer()) }
    }

    /// Bytes that its processes wrote to files and the kernel has still to write, also after they have ended:
    /// they are charged to the group when that is done (`cgroup-v2.rst`, "Writeback"). v1 charges nobody.
    pub fn unwritten(&self) -> Measured {
        if !self.io.is_open() {
            return Measured::NotMeasurable;
        }
        let mut buffer = buffer();
        let stat = self.memory_stat.text(&mut buffer);
        match (stat.field("file_dirty"), stat.field("file_writeback")) {
            (Measured::Value(dirty), Measured::Value(writing)) => {
                Measured::Value(dirty.saturating_add(writing))
            }
            (Measured::Value(_), failed) | (failed, _) => failed,
        }
    }

    /// Reads what the container suffers. If the last reading found no more CPU time than the one before the
    /// last look at this, nothing of it has run in between, and unless it is to be read `anew` this is what
    /// was found then. What has waited all that time for a disk would not show.
    pub fn strain(&self, anew: bool) -> Strain {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = last.counters.map(|counters| counters.cpu_usage_ns);
        let rested = |(then, _): &(Option<Measured>, Strain)| {
            !anew && *then == cpu && cpu.and_then(Measured::value).is_some()
        };
        if let Some((_, strain)) = last.strain.filter(rested) {
            return strain;
        }
        let mut buffer = buffer();
        let mut pressure = |name| self.unified.inside(name).text(&mut buffer).stalled_us();
        let [cpu_pressure_us, memory_pressure_us, io_pressure_us] =
            ["cpu.pressure", "memory.pressure", "io.pressure"].map(&mut pressure);
        let [memory_high_events, memory_max_events] = if self.failures.is_open() {
            // v1 has no high mark.
            [Measured::NotMeasurable, self.failures.text(&mut buffer).number()]
        } else {
            let events = self.oom.text(&mut buffer);
            ["high", "max"].map(|name| events.optional_field(name))
        };
        let strain = Strain {
            memory_high_events,
            memory_max_events,
            cpu_pressure_us,
            memory_pressure_us,
            io_pressure_us,
        };
        last.strain = Some((cpu, strain));
        strain
    }

    fn counters(&self, depth: Depth, buffer: &mut Vec<u8>) -> Counters {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = self.cpu(buffer);
        let rested = |before: &Counters| {
            depth == Depth::Changed && cpu[0].value().is_some() && cpu[0] == before.cpu_usage_ns
        };
        let own = match last.counters.filter(rested) {
            Some(before) => before,
            None => self.own_counters(depth, cpu, &mut last, buffer),
        };
        let io = self.io.text(buffer);
        let [io_read_bytes, io_write_bytes, io_reads, io_writes] =
            ["rbytes=", "wbytes=", "rios=", "wios="].map(|name| io.sum_of(name));
        let counters = Counters { io_read_bytes, io_write_bytes, io_reads, io_writes, ..own };
        last.counters = Some(counters);
        counters
    }

    /// What only processes of the group change; the rest is not read.
    fn own_counters(
        &self,
        depth: Depth,
        cpu: [Measured; 3],
        last: &mut Last,
        buffer: &mut Vec<u8>,
    ) -> Counters {
        let [cpu_usage_ns, cpu_user_ns, cpu_system_ns] = cpu;
        let throttle = self.throttle.text(buffer);
        let [cpu_periods, cpu_throttled_periods, throttled] =
            ["nr_periods", "nr_throttled", self.throttle_names.time]
                .map(|name| throttle.optional_field(name));
        let memory_current_bytes = self.memory_current.text(buffer).number();
        if depth == Depth::Full {
            last.peak = self.memory_peak.text(buffer).number();
            let stat = self.memory_stat.text(buffer);
            last.inactive = stat.field(self.inactive_name);
            if let Swap::InStat(name) = self.swap {
                last.swap_in_stat = stat.optional_field(name);
            }
        }
        let memory_working_set_bytes = match (memory_current_bytes, last.inactive) {
            (Measured::Value(current), inactive) => inactive.map(|inactive| current.saturating_sub(inactive)),
            (failed, _) => failed,
        };
        let memory_swap_bytes = match &self.swap {
            Swap::File(file) => file.text(buffer).number(),
            Swap::InStat(_) => last.swap_in_stat,
        };
        Counters {
            cpu_usage_ns,
            cpu_user_ns,
            cpu_system_ns,
            cpu_periods,
            cpu_throttled_periods,
            cpu_throttled_ns: throttled.map(|time| time.saturating_mul(self.throttle_names.unit_ns)),
            memory_current_bytes,
            memory_peak_bytes: last.peak,
            memory_working_set_bytes,
            memory_swap_bytes,
            oom_kills: self.oom.text(buffer).optional_field("oom_kill"),
            pids_current: self.pids.text(buffer).number(),
            io_read_bytes: Measured::NotRead,
            io_write_bytes: Measured::NotRead,
            io_reads: Measured::NotRead,
            io_writes: Measured::NotRead,
        }
    }

    /// Usage, user and system time in nanoseconds.
    fn cpu(&self, buffer: &mut Vec<u8>) -> [Measured; 3] {
        if self.unified_cpu.is_open() {
            let stat = self.unified_cpu.text(buffer);
            return ["usage_usec", "user_usec", "system_usec"]
                .map(|name| stat.field(name).map(|time| time.saturating_mul(1000)));
        }
        self.legacy_cpu.each_ref().map(|file| file.text(buffer).number())
    }
}

/// A file that is kept open, or that this host does not have.
#[derive(Debug)]
enum Source {
    Absent,
    Open(File),
}

impl Source {
    fn open(path: &Path) -> Result<Self, UsageError> {
        match File::open(path) {
            Ok(file) => Ok(Self::Open(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::Absent),
            Err(source) => Err(UsageError::Open { path: path.to_owned(), source }),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// A file in this directory.
    fn inside(&self, name: &str) -> Self {
        let Self::Open(dir) = self else { return Self::Absent };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(dir, name, flags, Mode::empty()).map_or(Self::Absent, |file| Self::Open(file.into()))
    }

    /// Reads a file of a group from its start. The kernel gives as much of one as there is room for, so
    /// what leaves room is the whole. One that does not fit is an error, not cut off.
    fn text<'buffer>(&self, buffer: &'buffer mut Vec<u8>) -> Text<'buffer> {
        buffer.clear();
        self.read_on(buffer).map_or_else(|text| text, |_| Text::of(buffer))
    }

    /// Adds what comes after what is in the buffer, and says how much that was.
    fn read_on(&self, buffer: &mut Vec<u8>) -> Result<usize, Text<'static>> {
        let Self::Open(file) = self else { return Err(Text::Absent) };
        let at = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let read = rustix::io::pread(file, spare_capacity(buffer), at)
            .map_err(|error| Text::Failed(Errno::from_raw(error.raw_os_error())))?;
        if buffer.len() == buffer.capacity() { Err(Text::Failed(Errno::EFBIG)) } else { Ok(read) }
    }
}

/// What came of reading a file.
#[derive(Debug, Clone, Copy)]
enum Text<'buffer> {
    Absent,
    Failed(Errno),
    Read(&'buffer str),
}

impl<'buffer> Text<'buffer> {
    fn of(buffer: &'buffer [u8]) -> Self {
        std::str::from_utf8(buffer).map_or(Self::Failed(Errno::EBADMSG), Self::Read)
    }

    fn failure(self) -> Measured {
        match self {
            Self::Absent => Measured::NotMeasurable,
            Self::Failed(errno) => unreadable(errno),
            Self::Read(_) => unreadable(Errno::EBADMSG),
        }
    }

    /// The file is one number.
    fn number(self) -> Measured {
        match self {
            Self::Read(text) => text.trim().parse().map_or_else(|_| self.failure(), Measured::Value),
            other => other.failure(),
        }
    }

    /// The file has lines `name value`, this one among them.
    fn field(self, name: &str) -> Measured {
        match self.optional_field(name) {
            Measured::NotMeasurable if matches!(self, Self::Read(_)) => unreadable(Errno::EBADMSG),
            other => other,
        }
    }

    /// As [`Text::field`], where some kernels have no such line.
    fn optional_field(self, name: &str) -> Measured {
        let Self::Read(text) = self else { return self.failure() };
        let value = text.lines().find_map(|line| line.split_once(' ').filter(|(key, _)| *key == name));
        match value.map(|(_, value)| value.trim().parse()) {
            Some(Ok(value)) => Measured::Value(value),
            Some(Err(_)) => self.failure(),
            None => Measured::NotMeasurable,
        }
    }

    /// The file is one of PSI: the total of its line `some`.
    fn stalled_us(self) -> Measured {
        let text = match self {
            Self::Read(text) => text,
            // The kernel can count it and was told not to (`psi=0`).
            Self::Failed(Errno::EOPNOTSUPP) => return Measured::NotMeasurable,
            other => return other.failure(),
        };
        let total = text.lines().find_map(|line| line.strip_prefix("some ")?.split_once("total="));
        total.and_then(|(_, total)| total.parse().ok()).map_or_else(|| self.failure(), Measured::Value)
    }

    /// The file has lines `device key=value…`; their sum. Lines without the key count nothing.
    fn sum_of(self, key: &str) -> Measured {
        let Self::Read(text) = self else { return self.failure() };
        let mut sum = 0_u64;
        for value in text.split_whitespace().filter_map(|word| word.strip_prefix(key)) {
            match value.parse::<u64>() {
                Ok(value) => sum = sum.saturating_add(value),
                Err(_) => return self.failure(),
            }
        }
        Measured::Value(sum)
    }
}

/// Room for a file; nothing is written to it that is not read.
fn buffer() -> Vec<u8> {
    Vec::with_capacity(BUFFER_BYTES)
}

/// Reads both clocks, the boot clock first.
fn now() -> (u64, i64) {
    let read = |clock| clock_gettime(clock).map_or((0, 0), |time| (time.tv_sec(), time.tv_nsec()));
    let (boot_s, boot_ns) = read(ClockId::CLOCK_BOOTTIME);
    let (real_s, real_ns) = read(ClockId::CLOCK_REALTIME);
    let boot = boot_s.saturating_mul(1_000_000_000).saturating_add(boot_ns);
    (u64::try_from(boot).unwrap_or_default(), real_s.saturating_mul(1_000_000).saturating_add(real_ns / 1000))
}

fn unreadable(errno: Errno) -> Measured {
    Measured::Unreadable(wharf_sys::SysError::new("pread", errno).raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A directory that looks like a mounted hierarchy.
    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("wharf-usage-{}-{name}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("parent")).expect("directories");
                std::fs::write(path, content).expect("file");
            }
            Self(root)
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    const V2: &[(&str, &str)] = &[
        (
            "c/cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 3\nthrottled_usec 20\n",
        ),
        ("c/memory.current", "10000\n"),
        ("c/memory.peak", "20000\n"),
        ("c/memory.stat", "anon 1\ninactive_file 4000\n"),
        ("c/memory.swap.current", "77\n"),
        ("c/memory.events", "low 0\nhigh 4\nmax 5\noom 3\noom_kill 2\n"),
        ("c/cpu.pressure", "some avg10=0.28 avg60=1.26 avg300=2.06 total=136\nfull avg10=0.00 total=1\n"),
        ("c/io.pressure", "garbage\n"),
        ("c/pids.current", "5\n"),
        (
            "c/io.stat",
            "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n",
        ),
    ];

    #[test]
    fn a_v2_group_is_read_in_full() {
        let fixture = Fixture::new("v2", V2);
        let layout = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let reader = UsageReader::open(&layout, Path::new("c")).expect("open");
        let early = reader.read(Depth::Live).counters;
        assert_eq!(early.memory_working_set_bytes, Measured::NotRead);
        assert_eq!(early.memory_swap_bytes, Measured::Value(77), "v2 has a file of its own for swap");
        let counters = reader.read(Depth::Full).counters;
        assert_eq!(counters.cpu_usage_ns, Measured::Value(1_500_000));
        assert_eq!(counters.cpu_system_ns, Measured::Value(500_000));
        assert_eq!(counters.cpu_throttled_ns, Measured::Value(20_000));
        assert_eq!(counters.memory_working_set_bytes, Measured::Value(6000));
        assert_eq!(counters.memory_swap_bytes, Measured::Value(77));
        assert_eq!(counters.oom_kills, Measured::Value(2));
        assert_eq!(counters.io_write_bytes, Measured::Value(202));
        assert_eq!(counters.io_reads, Measured::Value(4));
    }

    #[test]
    fn what_is_unwritten_is_dirty_or_being_written_and_on_v1_nobodys() {
        let stat = "anon 1\nfile_dirty 4096\nfile_writeback 8192\ninactive_file 4000\n";
        let fixture = Fixture::new("unwritten", &[("c/memory.stat", stat), ("c/io.stat", "")]);
        let v2 = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let reader = UsageReader::open(&v2, Path::new("c")).expect("open");
        assert_eq!(reader.unwritten(), Measured::Value(12_288));
        std::fs::write(fixture.0.join("c/memory.stat"), "file_dirty 0\n").expect("file");
        assert!(matches!(reader.unwritten(), Measured::Unreadable(_)), "half of it is not 0");
        let v1 = Layout::of(None, [(Controller::Memory, fixture.0.clone())].into());
        let reader = UsageReader::open(&v1, Path::new("c")).expect("open");
        assert_eq!(reader.unwritten(), Measured::NotMeasurable);
    }

    #[test]
    fn strain_is_what_the_kernel_counts_of_it_and_not_here_where_it_does_not() {
        let fixture = Fixture::new("strain", V2);
        let v2 = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let strain = UsageReader::open(&v2, Path::new("c")).expect("open").strain(true);
        assert_eq!(strain.memory_high_events, Measured::Value(4));
        assert_eq!(strain.memory_max_events, Measured::Value(5));
        assert_eq!(strain.cpu_pressure_us, Measured::Value(136));
        assert_eq!(strain.memory_pressure_us, Measured::NotMeasurable, "no such file");
        assert!(matches!(strain.io_pressure_us, Measured::Unreadable(_)));
        let fixture = Fixture::new("strain-v1", &[("c/memory.failcnt", "7\n")]);
        let v1 = Layout::of(None, [(Controller::Memory, fixture.0.clone())].into());
        let strain = UsageReader::open(&v1, Path::new("c")).expect("open").strain(true);
        assert_eq!(strain.memory_max_events, Measured::Value(7));
        assert_eq!(strain.memory_high_events, Measured::NotMeasurable);
        assert_eq!(strain.cpu_pressure_us, Measured::NotMeasurable);
        assert_eq!(Text::Failed(Errno::EOPNOTSUPP).stalled_us(), Measured::NotMeasurable);
    }

    #[test]
    fn a_live_reading_takes_from_memory_stat_what_the_last_full_one_found_there() {
        let stat = |inactive: u64, swap: u64| format!("total_inactive_file {inactive}\ntotal_swap {swap}\n");
        let fixture = Fixture::new(
            "live",
            &[
                ("v1/c/memory.usage_in_bytes", "10000\n"),
                ("v1/c/memory.stat", &stat(4000, 8)),
                ("v2/c/memory.current", "10000\n"),
                ("v2/c/memory.stat", "inactive_file 4000\n"),
                ("v2/c/memory.swap.current", "8\n"),
            ],
        );
        let write = |file: &str, text: &str| std::fs::write(fixture.0.join(file), text).expect("file");
        let reader = |layout| UsageReader::open(&layout, Path::new("c")).expect("open");
        let v1 = reader(Layout::of(None, [(Controller::Memory, fixture.0.join("v1"))].into()));
        let v2 = reader(Layout::of(Some(fixture.0.join("v2")), BTreeMap::new()));
        let memory = |reader: &UsageReader, depth| {
            let counters = reader.read(depth).counters;
            [counters.memory_current_bytes, counters.memory_working_set_bytes, counters.memory_swap_bytes]
                .map(|counter| counter.value().expect("a value"))
        };
        for reader in [&v1, &v2] {
            assert_eq!(memory(reader, Depth::Full), [10_000, 6_000, 8]);
        }
        write("v1/c/memory.usage_in_bytes", "20000\n");
        write("v1/c/memory.stat", &stat(5000, 9));
        write("v2/c/memory.current", "20000\n");
        write("v2/c/memory.stat", "inactive_file 5000\n");
        write("v2/c/memory.swap.current", "9\n");
        assert_eq!(memory(&v1, Depth::Live), [20_000, 16_000, 8], "v1 has swap in memory.stat");
        assert_eq!(memory(&v2, Depth::Live), [20_000, 16_000, 9]);
        for reader in [&v1, &v2] {
            assert_eq!(memory(reader, Depth::Full), [20_000, 15_000, 9]);
        }
    }

    #[test]
    fn of_a_group_that_has_not_run_only_what_others_change_is_read_again() {
        let fixture = Fixture::new("rest", V2);
        let write = |file: &str, text: &str| std::fs::write(fixture.0.join(file), text).expect("file");
        let layout = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let reader = UsageReader::open(&layout, Path::new("c")).expect("open");
        let seen = |depth| {
            let counters = reader.read(depth).counters;
            [counters.memory_current_bytes, counters.pids_current, counters.oom_kills, counters.io_reads]
                .map(|counter| counter.value().expect("a value"))
        };
        let pressure = |anew| reader.strain(anew).cpu_pressure_us.value().expect("a value");
        assert_eq!(seen(Depth::Changed), [10_000, 5, 2, 4], "the first is read");
        assert_eq!(pressure(false), 136);
        write("c/memory.current", "9000\n");
        write("c/pids.current", "4\n");
        write("c/io.stat", "8:0 rbytes=1 wbytes=2 rios=9 wios=2\n");
        write("c/cpu.pressure", "some total=137\n");
        assert_eq!(seen(Depth::Changed), [10_000, 5, 2, 9], "the host writes back what was written before");
        assert_eq!(seen(Depth::Live), [9000, 4, 2, 9]);
        assert_eq!((pressure(false), pressure(true)), (136, 137));
        write("c/memory.events", "oom_kill 3\n");
        write("c/cpu.pressure", "some total=138\n");
        write("c/cpu.stat", "usage_usec 1501\n");
        assert_eq!(seen(Depth::Changed), [9000, 4, 3, 9], "it has run");
        assert_eq!(pressure(false), 138);
    }

    #[test]
    fn a_file_that_fills_the_room_for_it_is_not_cut_off() {
        let fixture = Fixture::new("large", &[("c/pids.current", &"7".repeat(BUFFER_BYTES))]);
        let file = Source::open(&fixture.0.join("c/pids.current")).expect("open");
        assert!(matches!(file.text(&mut buffer()), Text::Failed(Errno::EFBIG)));
    }

    #[test]
    fn a_v1_group_is_read_in_full_and_its_io_is_not_measurable() {
        let fixture = Fixture::new(
            "v1",
            &[
                ("cpu/c/cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 999\n"),
                ("cpuacct/c/cpuacct.usage", "123456789\n"),
                ("cpuacct/c/cpuacct.usage_user", "100000000\n"),
                ("cpuacct/c/cpuacct.usage_sys", "23456789\n"),
                ("memory/c/memory.usage_in_bytes", "5000\n"),
                ("memory/c/memory.max_usage_in_bytes", "6000\n"),
                ("memory/c/memory.stat", "inactive_file 1\ntotal_inactive_file 500\ntotal_swap 8\n"),
                ("memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
                ("pids/c/pids.current", "2\n"),
                ("blkio/c/blkio.throttle.io_service_bytes", "8:0 Read 1\nTotal 1\n"),
            ],
        );
        let legacy =
            [Controller::Cpu, Controller::CpuAcct, Controller::Memory, Controller::Pids, Controller::BlkIo]
                .map(|controller| (controller, fixture.0.join(controller.name())));
        let layout = Layout::of(None, legacy.into());
        let counters = UsageReader::open(&layout, Path::new("c")).expect("open").read(Depth::Full).counters;
        assert_eq!(counters.cpu_usage_ns, Measured::Value(123_456_789));
        assert_eq!(counters.cpu_user_ns, Measured::Value(100_000_000));
        assert_eq!(counters.cpu_throttled_ns, Measured::Value(999));
        assert_eq!(counters.memory_working_set_bytes, Measured::Value(4500));
        assert_eq!(counters.memory_swap_bytes, Measured::Value(8));
        assert_eq!(counters.oom_kills, Measured::Value(1));
        assert_eq!(counters.io_write_bytes, Measured::NotMeasurable);
    }

    #[test]
    fn a_counter_that_cannot_be_read_is_never_zero() {
        let mut files = V2.to_vec();
        files[1] = ("c/memory.current", "garbage\n");
        files[0] = ("c/cpu.stat", "user_usec 1\n");
        let fixture = Fixture::new("broken", &files);
        let layout = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let counters = UsageReader::open(&layout, Path::new("c")).expect("open").read(Depth::Full).counters;
        assert!(matches!(counters.memory_current_bytes, Measured::Unreadable(_)));
        assert!(matches!(counters.memory_working_set_bytes, Measured::Unreadable(_)));
        assert!(matches!(counters.cpu_usage_ns, Measured::Unreadable(_)), "the line is missing");
        assert_eq!(counters.cpu_periods, Measured::NotMeasurable, "no quota controller, no such lines");
    }

    #[test]
    fn a_reading_survives_its_wire_form() {
        let fixture = Fixture::new("wire", V2);
        let layout = Layout::of(Some(fixture.0.clone()), BTreeMap::new());
        let reading = UsageReader::open(&layout, Path::new("c")).expect("open").read(Depth::Live);
        let bytes = postcard::to_stdvec(&reading).expect("encode");
        assert_eq!(postcard::from_bytes::<Reading>(&bytes).expect("decode"), reading);
        assert!(reading.boot_ns > 0 && reading.realtime_us > 0);
    }
}
