//! The exit record: how a container ended, and what it had used when it did.
//!
//! The shim writes it to disk before it tells anybody, so that neither a dead agent nor a power
//! failure costs the exit code or the last reading. One file per start of a container
//! ([`StateDir::exit_record`]); the agent removes it when the reading is in its journal.

use serde::{Deserialize, Serialize};
use wharf_runtime::usage::Reading;

use crate::clock::Moment;
use crate::paths::StateDir;
use crate::record_file::{self, Durability};

pub use crate::protocol::ExitStatus;
pub use crate::record_file::RecordFileError;

/// The form of [`ExitRecord`] that this build writes.
pub const EXIT_RECORD_VERSION: u16 = 1;

/// How one start of a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`EXIT_RECORD_VERSION`] of the writer.
    pub version: u16,
    /// The container.
    pub id: String,
    /// Which start of it.
    pub generation: u64,
    /// The boot in which the boot clock of this record runs.
    pub boot_id: String,
    /// How the first process ended.
    pub status: ExitStatus,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// When the first process was let run; `None` when it never was.
    pub started: Option<Moment>,
    /// When its end was seen.
    pub exited: Moment,
    /// The counters after its last process ended.
    pub reading: Reading,
    /// What wait4(2) says of the first process's CPU time, its own children's included: a second
    /// witness of the counters. `None` when somebody else waited for it, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_cpu_us: Option<u64>,
    /// Output that could not be written to the log.
    pub log_dropped_bytes: u64,
}

/// An exit record that cannot be written or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum ExitRecordError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] RecordFileError),
    /// It was written by another build in another form.
    #[error("the exit record of {id} has version {version}; this build reads {EXIT_RECORD_VERSION}")]
    Version {
        /// Of the container.
        id: String,
        /// Of the writer.
        version: u16,
    },
    /// It belongs to another container or another start of it.
    #[error("the exit record of {id}, start {generation}, is that of {found_id}, start {found_generation}")]
    Foreign {
        /// The container that was asked for.
        id: String,
        /// The start that was asked for.
        generation: u64,
        /// The container of the record.
        found_id: String,
        /// The start of the record.
        found_generation: u64,
    },
    /// Its times contradict each other.
    #[error("the exit record of {id} says that it ended before it started")]
    Order {
        /// Of the container.
        id: String,
    },
}

impl ExitRecord {
    /// Puts the record on disk in one step; it is durable when this returns.
    ///
    /// # Errors
    /// [`ExitRecordError::File`].
    pub fn write(&self, dir: &StateDir) -> Result<(), ExitRecordError> {
        Ok(record_file::write(&dir.exit_record(self.generation), self, Durability::Disk)?)
    }

    /// Reads the record of one start of a container; `None` when there is none.
    ///
    /// # Errors
    /// [`ExitRecordError`] says why it must not be believed.
    pub fn read(dir: &StateDir, id: &str, generation: u64) -> Result<Option<Self>, ExitRecordError> {
        let Some(record) = record_file::read::<Self>(&dir.exit_record(generation))? else { return Ok(None) };
        let id = id.to_owned();
        if record.version != EXIT_RECORD_VERSION {
            return Err(ExitRecordError::Version { id, version: record.version });
        }
        if record.id != id || record.generation != generation {
            let (found_id, found_generation) = (record.id, record.generation);
            return Err(ExitRecordError::Foreign { id, generation, found_id, found_generation });
        }
        if record.started.is_some_and(|started| started.boot_ns > record.exited.boot_ns) {
            return Err(ExitRecordError::Order { id });
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use wharf_runtime::usage::{Counters, Measured};

    use super::*;

    fn record() -> ExitRecord {
        let value = Measured::Value(u64::MAX);
        let counters = Counters {
            cpu_usage_ns: Measured::Value(1_234_567),
            cpu_user_ns: value,
            cpu_system_ns: value,
            cpu_periods: Measured::NotMeasurable,
            cpu_throttled_periods: value,
            cpu_throttled_ns: value,
            memory_current_bytes: value,
            memory_peak_bytes: Measured::Unreadable(5),
            memory_working_set_bytes: value,
            memory_swap_bytes: value,
            oom_kills: value,
            pids_current: value,
            io_read_bytes: value,
            io_write_bytes: value,
            io_reads: value,
            io_writes: value,
        };
        ExitRecord {
            version: EXIT_RECORD_VERSION,
            id: "c1".to_owned(),
            generation: 2,
            boot_id: "b".to_owned(),
            status: ExitStatus::Code(3),
            oom_killed: false,
            started: Some(Moment { boot_ns: 1, realtime_us: -1 }),
            exited: Moment { boot_ns: 2, realtime_us: 1 },
            reading: Reading { boot_ns: 3, realtime_us: 4, counters },
            init_cpu_us: Some(7),
            log_dropped_bytes: 0,
        }
    }

    fn round(record: &ExitRecord) -> Result<Option<ExitRecord>, ExitRecordError> {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = StateDir::new(dir.path());
        record.write(&dir)?;
        // Under the name that is asked for, whatever the record says.
        std::fs::rename(dir.exit_record(record.generation), dir.exit_record(2)).expect("rename");
        ExitRecord::read(&dir, "c1", 2)
    }

    #[test]
    fn reads_back_what_it_writes_whatever_the_status() {
        for status in [ExitStatus::Code(0), ExitStatus::Code(255), ExitStatus::Signal(9), ExitStatus::Unknown]
        {
            let record = ExitRecord { status, ..record() };
            assert_eq!(round(&record).expect("believed"), Some(record));
        }
        let never_started = ExitRecord { started: None, ..record() };
        assert_eq!(round(&never_started).expect("believed"), Some(never_started));
    }

    #[test]
    fn a_record_of_something_else_is_refused() {
        let other_version = ExitRecord { version: 9, ..record() };
        assert!(matches!(round(&other_version), Err(ExitRecordError::Version { version: 9, .. })));
        let other_container = ExitRecord { id: "c2".to_owned(), ..record() };
        assert!(matches!(round(&other_container), Err(ExitRecordError::Foreign { .. })));
        let other_start = ExitRecord { generation: 3, ..record() };
        assert!(matches!(round(&other_start), Err(ExitRecordError::Foreign { found_generation: 3, .. })));
    }

    #[test]
    fn a_record_that_ends_before_it_starts_is_refused() {
        let backwards = ExitRecord { started: Some(Moment { boot_ns: 9, realtime_us: 0 }), ..record() };
        assert!(matches!(round(&backwards), Err(ExitRecordError::Order { .. })));
    }

    #[test]
    fn a_record_of_an_earlier_build_without_the_first_processs_time_is_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = StateDir::new(dir.path());
        let earlier = ExitRecord { init_cpu_us: None, ..record() };
        earlier.write(&dir).expect("write");
        assert!(!std::fs::read_to_string(dir.exit_record(2)).expect("read").contains("init_cpu_us"));
        assert_eq!(ExitRecord::read(&dir, "c1", 2).expect("believed"), Some(earlier));
    }

    #[test]
    fn a_record_of_a_later_build_with_one_more_field_is_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = StateDir::new(dir.path());
        record().write(&dir).expect("write");
        let text = std::fs::read_to_string(dir.exit_record(2)).expect("read");
        let more = text.replacen('{', r#"{"more":1,"#, 1);
        std::fs::write(dir.exit_record(2), more).expect("write");
        assert_eq!(ExitRecord::read(&dir, "c1", 2).expect("believed"), Some(record()));
    }
}
