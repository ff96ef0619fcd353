//! Frames of the multiplexed WebSocket `/api/v1/live`.
//!
//! The client offers a subprotocol: [`SUBPROTOCOL_POSTCARD`] (binary frames) or
//! [`SUBPROTOCOL_JSON`] (text frames); the frames are the same. First comes [`ClientFrame::Hello`]
//! with a ticket (browsers) or without one (the upgrade request carried a bearer token), answered by
//! [`ServerFrame::Welcome`]. Then topics are subscribed under numbers that the client chooses.
//! Log items carry a cursor and event items a sequence number; a client that comes back gives the
//! last one it has and misses nothing. Metrics are the latest state and are not repeated.
//! The exec and attach sockets use [`StreamInput`] and [`StreamOutput`] in the same way.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::event::EventView;
use crate::id::ContainerId;
use crate::image::PullView;
use crate::problem::Problem;
use crate::time::Timestamp;
use crate::usage::Measured;

/// Binary frames in postcard.
pub const SUBPROTOCOL_POSTCARD: &str = "wharf.v1.postcard";
/// Text frames in JSON.
pub const SUBPROTOCOL_JSON: &str = "wharf.v1.json";

/// What the client says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientFrame {
    /// First of all.
    Hello {
        /// From `POST /api/v1/auth/ws-ticket`.
        ticket: Option<String>,
    },
    /// Send this topic from now on.
    Subscribe {
        /// The client's number for it.
        sub: u32,
        /// What.
        topic: Topic,
    },
    /// No more of it.
    Unsubscribe {
        /// The client's number for it.
        sub: u32,
    },
    /// Are you there?
    Ping,
}

/// What can be subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Log lines of one container, history first.
    Logs {
        /// Which.
        container: ContainerId,
        /// Where to go on: the cursor of the last line one has.
        after: Option<u64>,
        /// Without `after`: begin at most so many lines before the end.
        tail: Option<u32>,
    },
    /// Metrics once a second, of one container or of all that one may see.
    Metrics {
        /// Which; all when absent.
        container: Option<ContainerId>,
    },
    /// Events.
    Events {
        /// Where to go on: the sequence number of the last event one has; only new ones when absent.
        after: Option<i64>,
    },
    /// Progress of pulls and imports that one may see.
    Pulls,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerFrame {
    /// The ticket or token was good.
    Welcome {
        /// The server's time.
        now: Timestamp,
        /// Version of the agent; a dashboard of another version reloads itself.
        version: String,
    },
    /// Items of a topic.
    Items {
        /// The client's number for it.
        sub: u32,
        /// At least one, in order.
        items: Vec<TopicItem>,
    },
    /// The topic has ended: the container was removed, or the log is complete.
    End {
        /// The client's number for it.
        sub: u32,
    },
    /// The topic was refused or broke; `sub` is absent when the whole socket is meant.
    Refused {
        /// The client's number for it.
        sub: Option<u32>,
        /// Why.
        problem: Problem,
    },
    /// I am.
    Pong,
}

/// One item of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicItem {
    /// A log line.
    Log(LogLine),
    /// Bytes of the log that were rotated away before they could be read.
    LogGap {
        /// How many bytes.
        missed_bytes: u64,
        /// Cursor after the gap.
        cursor: u64,
    },
    /// One second of one container.
    Metrics(MetricsPoint),
    /// An event.
    Event(EventView),
    /// A pull's progress.
    Pull(PullView),
}

/// Where a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
    /// The supervisor itself, such as a note of dropped bytes.
    Supervisor,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Position after this line; give it as `after` to resume.
    pub cursor: u64,
    /// Where it came from.
    pub stream: LogStream,
    /// When its first byte was read.
    pub at: Timestamp,
    /// The line without its end; bytes that are not UTF-8 are shown as U+FFFD.
    pub text: String,
    /// The line was cut here because it is too long; the next item goes on.
    pub partial: bool,
}

/// What a container suffers under its limits and beside others, in all since its start. What this
/// kernel does not count is not measurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Strain {
    /// Periods of the CPU quota in which it was held back.
    pub cpu_throttled_periods: Measured,
    /// Time that it was held back, in microseconds.
    pub cpu_throttled_us: Measured,
    /// Processes that the kernel killed for lack of memory.
    pub oom_kills: Measured,
    /// Times that memory was reclaimed because it was above `memory_high_bytes`; read every ten seconds,
    /// as all that follows, and every minute while nothing of it runs.
    pub memory_high_events: Measured,
    /// Times that it wanted more memory than its limit.
    pub memory_max_events: Measured,
    /// Time in which some of it waited for a CPU, in microseconds.
    pub cpu_pressure_us: Measured,
    /// Time in which some of it waited for memory, in microseconds.
    pub memory_pressure_us: Measured,
    /// Time in which some of it waited for block I/O, in microseconds.
    pub io_pressure_us: Measured,
}

/// One second of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricsPoint {
    /// Which container.
    pub container: ContainerId,
    /// When it was read.
    pub at: Timestamp,
    /// Thousandths of a CPU used since the last point.
    pub cpu_millis: Measured,
    /// Bytes in use without reclaimable cache.
    pub memory_working_set_bytes: Measured,
    /// Bytes in use.
    pub memory_current_bytes: Measured,
    /// Memory limit, if there is one.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes received per second.
    pub network_receive_bytes_per_s: Measured,
    /// Bytes sent per second.
    pub network_transmit_bytes_per_s: Measured,
    /// Bytes read per second.
    pub io_read_bytes_per_s: Measured,
    /// Bytes written per second.
    pub io_write_bytes_per_s: Measured,
    /// Processes and threads.
    pub pids: Measured,
    /// What it suffers; absent in points of the past.
    pub strain: Option<Box<Strain>>,
    /// What an hour at this rate costs, exact.
    pub cost_per_hour: Decimal,
    /// ISO 4217 code.
    pub currency: String,
}

/// What goes into a process over the exec or attach socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamInput {
    /// First of all, as [`ClientFrame::Hello`].
    Hello {
        /// From `POST /api/v1/auth/ws-ticket`.
        ticket: Option<String>,
    },
    /// Bytes for standard input.
    Stdin(Vec<u8>),
    /// No more standard input.
    CloseStdin,
    /// The terminal has this size now.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Send this signal to the process.
    Signal(i32),
}

/// What comes out of a process over the exec or attach socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamOutput {
    /// The process runs.
    Started,
    /// Bytes of standard output or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// It ended with this code (128 + the signal, if a signal ended it).
    Exited(i32),
    /// It could not be started, or the connection to it broke.
    Refused(Problem),
    /// So many bytes of an attached container's log are missing here: it was rotated before the client took them.
    Missed(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    #[test]
    fn frames_survive_both_encodings() {
        let frame = ServerFrame::Refused {
            sub: Some(3),
            problem: Problem::new(ProblemKind::NotFound, "no such container"),
        };
        let binary = postcard::to_allocvec(&frame).expect("postcard writes");
        assert_eq!(postcard::from_bytes::<ServerFrame>(&binary).expect("postcard reads"), frame);
        let text = serde_json::to_string(&frame).expect("json writes");
        assert_eq!(serde_json::from_str::<ServerFrame>(&text).expect("json reads"), frame);
    }

    #[test]
    fn a_metrics_point_survives_postcard() {
        let point = MetricsPoint {
            container: "a".repeat(64).parse().expect("an id"),
            at: Timestamp(1),
            cpu_millis: Measured::Value(250),
            memory_working_set_bytes: Measured::Unreadable(2),
            memory_current_bytes: Measured::Value(1),
            memory_limit_bytes: None,
            network_receive_bytes_per_s: Measured::NotMeasurable,
            network_transmit_bytes_per_s: Measured::Value(0),
            io_read_bytes_per_s: Measured::NotMeasurable,
            io_write_bytes_per_s: Measured::NotMeasurable,
            pids: Measured::Value(3),
            strain: Some(Box::new(Strain {
                cpu_throttled_periods: Measured::Value(4),
                cpu_throttled_us: Measured::Value(5),
                oom_kills: Measured::Value(6),
                memory_high_events: Measured::NotMeasurable,
                memory_max_events: Measured::Value(7),
                cpu_pressure_us: Measured::Value(8),
                memory_pressure_us: Measured::Unreadable(5),
                io_pressure_us: Measured::NotMeasurable,
            })),
            cost_per_hour: "0.0012".parse().expect("a decimal"),
            currency: "EUR".to_owned(),
        };
        let frame = ServerFrame::Items { sub: 1, items: vec![TopicItem::Metrics(point)] };
        let binary = postcard::to_allocvec(&frame).expect("postcard writes");
        assert_eq!(postcard::from_bytes::<ServerFrame>(&binary).expect("postcard reads"), frame);
    }
}
