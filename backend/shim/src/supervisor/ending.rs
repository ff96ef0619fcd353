//! The end: everything in the container's cgroup is killed, output is drained, the counters are
//! read, the record is written to disk, and only then anybody is told.
//!
//! While the record cannot be written (a full disk), the container counts as running and the shim
//! tries again: what was used is never lost with a shim that gave up.

use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_runtime::usage::Depth;
use wharf_shim::clock::{Moment, realtime_ns};
use wharf_shim::exit::{EXIT_RECORD_VERSION, ExitRecord, ExitStatus};
use wharf_shim::failpoint;
use wharf_shim::protocol::{Notice, Phase};

use super::{Life, Supervisor};

/// Between attempts to write the exit record.
const RECORD_RETRY: Duration = Duration::from_secs(1);
/// Processes of a killed cgroup are gone within this time, or are not waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const KILL_RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

impl Supervisor {
    /// The first process ended and was reaped.
    pub(super) fn ended(&mut self, status: ExitStatus) {
        let started = match std::mem::replace(&mut self.life, Life::Changing) {
            Life::Running { started, .. } => Some(started),
            // It was killed at its gate.
            Life::Created(_) => None,
            other @ (Life::Ended { .. } | Life::Exited { .. } | Life::Changing) => {
                self.life = other;
                return;
            }
        };
        self.take_stock(status, started);
    }

    /// Ends what is left of the container and prepares its record.
    pub(super) fn take_stock(&mut self, status: ExitStatus, started: Option<Moment>) {
        failpoint::reach("shim.stop.reaped");
        let exited = Moment::now();
        self.kill_rest();
        failpoint::reach("shim.stop.emptied");
        for output in &mut self.streams.outputs {
            output.drain(&mut self.buffer, &mut self.log);
        }
        self.log.finish(realtime_ns());
        self.streams.outputs.clear();
        self.streams.stdin = None;
        let reading = self.usage.read(Depth::Full);
        self.oom.looked(reading.counters.oom_kills);
        let record = ExitRecord {
            version: EXIT_RECORD_VERSION,
            id: self.state.id.clone(),
            generation: self.state.generation,
            boot_id: self.state.boot_id.clone(),
            status,
            oom_killed: self.oom.kills() > 0,
            started,
            exited,
            reading,
            init_cpu_us: self.init_cpu.and_then(|cpu| u64::try_from(cpu.as_micros()).ok()),
            log_dropped_bytes: self.log.dropped_total_bytes(),
        };
        self.life = Life::Ended { record: Box::new(record), retry_at: Instant::now() };
    }

    /// Kills what the first process left. Its own pid namespace is empty already; this is for what
    /// came from elsewhere.
    fn kill_rest(&mut self) {
        let deadline = Instant::now() + KILL_PATIENCE;
        self.reap_execs();
        while !matches!(self.cgroup.is_empty(), Ok(true)) || !self.execs.is_empty() {
            if Instant::now() > deadline {
                break;
            }
            // A failure shows as a group that does not become empty.
            self.cgroup.kill().ok();
            let mut pidfds: Vec<PollFd<'_>> =
                self.execs.pidfds().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
            poll(&mut pidfds, Some(&KILL_RETRY)).ok();
            self.reap_execs();
        }
        for (exec_id, status) in self.execs.abandon() {
            self.tell(Notice::ExecExited { exec_id, status }, None);
        }
    }

    /// Writes the exit record when it is due, and tells when it is on disk.
    pub(super) fn record_exit(&mut self, now: Instant) {
        let Life::Ended { record, retry_at } = &mut self.life else { return };
        if *retry_at > now {
            return;
        }
        if record.write(&self.state_dir).is_err() {
            // Perhaps the directory was removed; what was used must be told all the same.
            DirBuilder::new().recursive(true).mode(0o700).create(self.state_dir.path()).ok();
            *retry_at = now + RECORD_RETRY;
            return;
        }
        failpoint::reach("shim.stop.recorded");
        let (status, oom_killed) = (record.status, record.oom_killed);
        self.life = Life::Exited { status };
        self.set_phase(Phase::Exited);
        self.nobody_since = now;
        self.tell(Notice::Exited { status, oom_killed }, None);
        failpoint::reach("shim.stop.told");
    }
}
