//! A full disk: output is dropped and counted, the count stands in the log where the output is
//! missing, and the container's end is told when it can be recorded.

use std::fmt::Write;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use wharf_runtime::spec::LogSpec;
use wharf_shim::exit::ExitStatus;
use wharf_shim::logfile::{Item, LogReader, LogWriter, Start, Stream};
use wharf_shim::protocol::{Phase, Request};

use crate::support::{Host, wait_until};

/// Mounted nowhere; gone when it is dropped.
struct SmallDisk(OwnedFd);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("root, and tmpfs");
        fsconfig_set_string(&context, "size", size).expect("size");
        fsconfig_create(&context).expect("create");
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Self(fsmount(&context, flags, MountAttrFlags::empty()).expect("mount"))
    }

    /// A path that holds in this process and in others of root.
    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/{}/fd/{}/{name}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

/// Reads the whole log as text, with drops as `[-stream bytes]`.
fn render(dir: &std::path::Path) -> String {
    let mut text = String::new();
    let mut reader = LogReader::open(dir, Start::Oldest).expect("log");
    while let Some(item) = reader.next().expect("readable") {
        match item {
            Item::Record(record) => match record.dropped_bytes() {
                Some(bytes) => write!(text, "[-{:?} {bytes}]", record.stream).expect("text"),
                None => text.push(char::from(record.bytes[0])),
            },
            Item::Gap(gap) => panic!("{gap:?}"),
        }
    }
    text
}

#[test]
fn drops_are_counted_and_told_at_their_place_when_there_is_space_again() {
    let disk = SmallDisk::new("64k");
    let filler = disk.path("filler");
    let spec = LogSpec { dir: disk.path("log"), max_file_bytes: 1024 * 1024, max_files: 3 };
    let mut log = LogWriter::open(&spec).expect("open");
    log.append(Stream::Stdout, 1, &[b'a'; 1000]);
    // Fills the disk to the last page.
    fs::write(&filler, vec![0; 1024 * 1024]).expect_err("full");
    log.append(Stream::Stdout, 2, &[b'b'; 1000]);
    let before = log.dropped_total_bytes();
    assert_eq!(before, 0, "the log's own page had space left");
    for _ in 0..10 {
        log.append(Stream::Stdout, 3, &[b'c'; 5000]);
    }
    log.append(Stream::Stderr, 4, &[b'd'; 5000]);
    assert_eq!(log.dropped_total_bytes(), 55_000);
    assert_eq!(render(&spec.dir), "ab");

    fs::remove_file(&filler).expect("space");
    log.append(Stream::Stdout, 5, &[b'e'; 5000]);
    assert_eq!(log.dropped_total_bytes(), 55_000);
    assert_eq!(render(&spec.dir), "ab[-Stdout 50000][-Stderr 5000]e");

    // A later writer goes on where this one ended.
    drop(log);
    let mut log = LogWriter::open(&spec).expect("open");
    log.append(Stream::Stdout, 6, b"f");
    assert_eq!(render(&spec.dir), "ab[-Stdout 50000][-Stderr 5000]ef");
}

#[test]
fn half_a_record_is_never_left_behind() {
    let disk = SmallDisk::new("64k");
    let spec = LogSpec { dir: disk.path("log"), max_file_bytes: 1024 * 1024, max_files: 3 };
    let mut log = LogWriter::open(&spec).expect("open");
    // Larger than what is left: the kernel writes a part of it before it says that there is no space.
    for byte in b'a'..b'g' {
        log.append(Stream::Stdout, 1, &vec![byte; 20_000]);
    }
    assert!(log.dropped_total_bytes() > 0);
    let whole = render(&spec.dir);
    assert!(whole.starts_with("abc") && !whole.contains('f'), "{whole}");
    assert_eq!(LogWriter::open(&spec).expect("open").end(), log.end());
}

#[test]
fn a_container_on_a_full_disk_runs_on_and_its_end_is_told_when_it_can_be_recorded() {
    let disk = SmallDisk::new("256k");
    let filler = disk.path("filler");
    let mut host = Host::new();
    let mut spec = host.spec(&["sh", "-c", "read line; dd if=/dev/zero bs=1M count=4; exit 9"]);
    spec.process.stdin = true;
    spec.log.dir = disk.path("log");
    spec.state_dir = disk.path("state");
    fs::create_dir(&spec.state_dir).expect("state dir");
    let mut container = host.start(&spec);
    fs::write(&filler, vec![0; 1024 * 1024]).expect_err("full");
    drop(container.shim.stdin().expect("stdin"));
    container.shim.done(Request::CloseStdin, &[]).expect("close");
    wait_until("the program has ended", || !container.init.is_alive().expect("stat"));
    let (report, _) = container.shim.state().expect("state");
    assert_eq!((report.phase, report.exit), (Phase::Running, None), "an end that is told is recorded");

    fs::remove_file(&filler).expect("space");
    assert_eq!(container.wait(), ExitStatus::Code(9));
    let record = container.record();
    assert_eq!(record.status, ExitStatus::Code(9));
    assert!(record.log_dropped_bytes > 3 * 1024 * 1024, "{} dropped", record.log_dropped_bytes);
}
