//! Every message as fields: the numbers here are the protocol and never change their meaning.

use super::wire::{OPTIONAL, Reader, Writer};
use super::{
    ExitStatus, FAILURE_TEXT_MAX_BYTES, Failure, MAX_MESSAGE_BYTES, Message, Notice, Phase, Reply, Request,
    RunningExec, Seq, StateReport, VERSION,
};

/// A message that cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum ProtocolError {
    #[error("a message ends within a field after {length_bytes} bytes")]
    Truncated { length_bytes: usize },
    #[error("a message does not begin with the protocol's magic number")]
    Magic,
    #[error("a message has protocol version {theirs}; this build speaks {VERSION}")]
    Version { theirs: u16 },
    #[error("a message has the unknown kind {kind:#06x}")]
    UnknownKind { kind: u16 },
    #[error("a message of kind {kind:#06x} has the wrong form of sequence number")]
    Sequence { kind: u16 },
    #[error("a message of kind {kind:#06x} has the unknown field {tag:#06x}")]
    UnknownField { kind: u16, tag: u16 },
    #[error("a message lacks the field {tag:#06x}")]
    Missing { tag: u16 },
    #[error("a message has the field {tag:#06x} more than once")]
    Repeated { tag: u16 },
    #[error("the value of field {tag:#06x} is not of its type")]
    Value { tag: u16 },
    #[error("field {tag:#06x} would have {length_bytes} bytes")]
    FieldTooLarge { tag: u16, length_bytes: usize },
    #[error("a message has {length_bytes} bytes; at most {MAX_MESSAGE_BYTES} are accepted")]
    MessageTooLarge { length_bytes: usize },
}

mod kind {
    pub(super) const PING: u16 = 0x0001;
    pub(super) const QUIT: u16 = 0x0002;
    pub(super) const LAUNCH: u16 = 0x0003;
    pub(super) const START: u16 = 0x0010;
    pub(super) const SIGNAL: u16 = 0x0011;
    pub(super) const EXEC: u16 = 0x0012;
    pub(super) const EXEC_SIGNAL: u16 = 0x0013;
    pub(super) const STDIN: u16 = 0x0014;
    pub(super) const CLOSE_STDIN: u16 = 0x0015;
    pub(super) const STATE: u16 = 0x0016;
    pub(super) const RELEASE: u16 = 0x0017;
    pub(super) const DONE: u16 = 0x0100;
    pub(super) const FAILED: u16 = 0x0101;
    pub(super) const FORGE: u16 = 0x0102;
    pub(super) const LAUNCHED: u16 = 0x0103;
    pub(super) const EXEC_STARTED: u16 = 0x0104;
    pub(super) const STDIN_GIVEN: u16 = 0x0105;
    pub(super) const STATE_GIVEN: u16 = 0x0106;
    pub(super) const CREATED: u16 = 0x0200;
    pub(super) const CREATE_FAILED: u16 = 0x0201;
    pub(super) const STARTED: u16 = 0x0202;
    pub(super) const EXITED: u16 = 0x0203;
    pub(super) const EXEC_EXITED: u16 = 0x0204;
    pub(super) const OOM: u16 = 0x0205;
}

mod tag {
    pub(super) const ID: u16 = 1;
    pub(super) const GENERATION: u16 = 2;
    pub(super) const SIGNO: u16 = 3;
    pub(super) const ALL: u16 = 4;
    pub(super) const EXEC_ID: u16 = 5;
    pub(super) const HAS_STDIN: u16 = 6;
    pub(super) const HAS_STDOUT: u16 = 7;
    pub(super) const HAS_STDERR: u16 = 8;
    pub(super) const STAGE: u16 = 9;
    pub(super) const ERRNO: u16 = 10;
    pub(super) const MESSAGE: u16 = 11;
    pub(super) const BUILD_ID: u16 = 12;
    pub(super) const PID: u16 = 13;
    pub(super) const TERMINAL: u16 = 14;
    pub(super) const START_TIME_TICKS: u16 = 15;
    pub(super) const NETWORK_NAMESPACE: u16 = 16;
    pub(super) const STATUS: u16 = 17;
    pub(super) const OOM_KILLED: u16 = 18;
    pub(super) const OOM_KILLS: u16 = 19;
    pub(super) const PHASE: u16 = 20;
    pub(super) const LOG_DROPPED_BYTES: u16 = 21;
    pub(super) const RUNNING_EXEC: u16 = 22;
}

const _: () = assert!(tag::RUNNING_EXEC & OPTIONAL == 0, "today's fields must be understood");

impl Message {
    /// Writes the message.
    ///
    /// # Errors
    /// [`ProtocolError::FieldTooLarge`] and [`ProtocolError::MessageTooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, ProtocolError> {
        match self {
            Self::Request { seq, request } => encode_request(*seq, request),
            Self::Reply { seq, reply } => encode_reply(*seq, reply),
            Self::Notice(notice) => encode_notice(notice),
        }
    }

    /// Reads a message; accepts exactly what [`Message::encode`] writes, and fields that may be skipped.
    ///
    /// # Errors
    /// [`ProtocolError`] says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(bytes)?;
        let kind = reader.kind;
        let seq = Seq::new(reader.seq);
        let message = match (kind >> 8, seq) {
            (0, Some(seq)) => Self::Request { seq, request: decode_request(&mut reader)? },
            (1, Some(seq)) => Self::Reply { seq, reply: decode_reply(&mut reader)? },
            (2, None) => Self::Notice(decode_notice(&mut reader)?),
            (0..=2, _) => return Err(ProtocolError::Sequence { kind }),
            _ => return Err(ProtocolError::UnknownKind { kind }),
        };
        reader.finish()?;
        Ok(message)
    }

    /// Returns how many descriptors belong to the message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Request { request, .. } => match request {
                Request::Launch { .. } => 2,
                Request::Exec { stdin, stdout, stderr } => {
                    1 + usize::from(*stdin) + usize::from(*stdout) + usize::from(*stderr)
                }
                Request::Ping
                | Request::Quit
                | Request::Start
                | Request::Signal { .. }
                | Request::ExecSignal { .. }
                | Request::Stdin
                | Request::CloseStdin
                | Request::State
                | Request::Release => 0,
            },
            Self::Reply { reply, .. } => match reply {
                Reply::Stdin => 1,
                Reply::ExecStarted { terminal, .. } => usize::from(*terminal),
                Reply::State(report) => usize::from(report.network_namespace),
                Reply::Done | Reply::Failed(_) | Reply::Forge { .. } | Reply::Launched { .. } => 0,
            },
            Self::Notice(notice) => match notice {
                Notice::Created { network_namespace, .. } => usize::from(*network_namespace),
                Notice::CreateFailed(_)
                | Notice::Started
                | Notice::Exited { .. }
                | Notice::ExecExited { .. }
                | Notice::Oom { .. } => 0,
            },
        }
    }
}

fn encode_request(seq: Seq, request: &Request) -> Result<Vec<u8>, ProtocolError> {
    let kind = match request {
        Request::Ping => kind::PING,
        Request::Quit => kind::QUIT,
        Request::Launch { .. } => kind::LAUNCH,
        Request::Start => kind::START,
        Request::Signal { .. } => kind::SIGNAL,
        Request::Exec { .. } => kind::EXEC,
        Request::ExecSignal { .. } => kind::EXEC_SIGNAL,
        Request::Stdin => kind::STDIN,
        Request::CloseStdin => kind::CLOSE_STDIN,
        Request::State => kind::STATE,
        Request::Release => kind::RELEASE,
    };
    let mut writer = Writer::new(kind, seq.get());
    match request {
        Request::Launch { id, generation } => {
            writer.field(tag::ID, id.as_bytes())?;
            writer.field(tag::GENERATION, &generation.to_le_bytes())?;
        }
        Request::Signal { signo, all } => {
            writer.field(tag::SIGNO, &signo.to_le_bytes())?;
            writer.field(tag::ALL, &[u8::from(*all)])?;
        }
        Request::Exec { stdin, stdout, stderr } => {
            writer.field(tag::HAS_STDIN, &[u8::from(*stdin)])?;
            writer.field(tag::HAS_STDOUT, &[u8::from(*stdout)])?;
            writer.field(tag::HAS_STDERR, &[u8::from(*stderr)])?;
        }
        Request::ExecSignal { exec_id, signo } => {
            writer.field(tag::EXEC_ID, exec_id.as_bytes())?;
            writer.field(tag::SIGNO, &signo.to_le_bytes())?;
        }
        Request::Ping
        | Request::Quit
        | Request::Start
        | Request::Stdin
        | Request::CloseStdin
        | Request::State
        | Request::Release => {}
    }
    writer.finish()
}

fn decode_request(reader: &mut Reader<'_>) -> Result<Request, ProtocolError> {
    Ok(match reader.kind {
        kind::PING => Request::Ping,
        kind::QUIT => Request::Quit,
        kind::LAUNCH => {
            Request::Launch { id: text(reader, tag::ID)?, generation: number(reader, tag::GENERATION)? }
        }
        kind::START => Request::Start,
        kind::SIGNAL => Request::Signal { signo: integer(reader, tag::SIGNO)?, all: flag(reader, tag::ALL)? },
        kind::EXEC => Request::Exec {
            stdin: flag(reader, tag::HAS_STDIN)?,
            stdout: flag(reader, tag::HAS_STDOUT)?,
            stderr: flag(reader, tag::HAS_STDERR)?,
        },
        kind::EXEC_SIGNAL => {
            Request::ExecSignal { exec_id: text(reader, tag::EXEC_ID)?, signo: integer(reader, tag::SIGNO)? }
        }
        kind::STDIN => Request::Stdin,
        kind::CLOSE_STDIN => Request::CloseStdin,
        kind::STATE => Request::State,
        kind::RELEASE => Request::Release,
        kind => return Err(ProtocolError::UnknownKind { kind }),
    })
}

fn encode_reply(seq: Seq, reply: &Reply) -> Result<Vec<u8>, ProtocolError> {
    let kind = match reply {
        Reply::Done => kind::DONE,
        Reply::Failed(_) => kind::FAILED,
        Reply::Forge { .. } => kind::FORGE,
        Reply::Launched { .. } => kind::LAUNCHED,
        Reply::ExecStarted { .. } => kind::EXEC_STARTED,
        Reply::Stdin => kind::STDIN_GIVEN,
        Reply::State(_) => kind::STATE_GIVEN,
    };
    let mut writer = Writer::new(kind, seq.get());
    match reply {
        Reply::Done | Reply::Stdin => {}
        Reply::Failed(failure) => encode_failure(&mut writer, failure)?,
        Reply::Forge { build_id, pid } => {
            writer.field(tag::BUILD_ID, &build_id.to_le_bytes())?;
            writer.field(tag::PID, &pid.to_le_bytes())?;
        }
        Reply::Launched { shim_pid } => writer.field(tag::PID, &shim_pid.to_le_bytes())?,
        Reply::ExecStarted { pid, terminal } => {
            writer.field(tag::PID, &pid.to_le_bytes())?;
            writer.field(tag::TERMINAL, &[u8::from(*terminal)])?;
        }
        Reply::State(report) => encode_state(&mut writer, report)?,
    }
    writer.finish()
}

fn decode_reply(reader: &mut Reader<'_>) -> Result<Reply, ProtocolError> {
    Ok(match reader.kind {
        kind::DONE => Reply::Done,
        kind::FAILED => Reply::Failed(decode_failure(reader)?),
        kind::FORGE => {
            Reply::Forge { build_id: number(reader, tag::BUILD_ID)?, pid: integer(reader, tag::PID)? }
        }
        kind::LAUNCHED => Reply::Launched { shim_pid: integer(reader, tag::PID)? },
        kind::EXEC_STARTED => {
            Reply::ExecStarted { pid: integer(reader, tag::PID)?, terminal: flag(reader, tag::TERMINAL)? }
        }
        kind::STDIN_GIVEN => Reply::Stdin,
        kind::STATE_GIVEN => Reply::State(decode_state(reader)?),
        kind => return Err(ProtocolError::UnknownKind { kind }),
    })
}

fn encode_notice(notice: &Notice) -> Result<Vec<u8>, ProtocolError> {
    let kind = match notice {
        Notice::Created { .. } => kind::CREATED,
        Notice::CreateFailed(_) => kind::CREATE_FAILED,
        Notice::Started => kind::STARTED,
        Notice::Exited { .. } => kind::EXITED,
        Notice::ExecExited { .. } => kind::EXEC_EXITED,
        Notice::Oom { .. } => kind::OOM,
    };
    let mut writer = Writer::new(kind, 0);
    match notice {
        Notice::Created { pid, start_time_ticks, network_namespace } => {
            writer.field(tag::PID, &pid.to_le_bytes())?;
            writer.field(tag::START_TIME_TICKS, &start_time_ticks.to_le_bytes())?;
            writer.field(tag::NETWORK_NAMESPACE, &[u8::from(*network_namespace)])?;
        }
        Notice::CreateFailed(failure) => encode_failure(&mut writer, failure)?,
        Notice::Started => {}
        Notice::Exited { status, oom_killed } => {
            writer.field(tag::STATUS, &status_bytes(*status))?;
            writer.field(tag::OOM_KILLED, &[u8::from(*oom_killed)])?;
        }
        Notice::ExecExited { exec_id, status } => {
            writer.field(tag::EXEC_ID, exec_id.as_bytes())?;
            writer.field(tag::STATUS, &status_bytes(*status))?;
        }
        Notice::Oom { kills } => writer.field(tag::OOM_KILLS, &kills.to_le_bytes())?,
    }
    writer.finish()
}

fn decode_notice(reader: &mut Reader<'_>) -> Result<Notice, ProtocolError> {
    Ok(match reader.kind {
        kind::CREATED => Notice::Created {
            pid: integer(reader, tag::PID)?,
            start_time_ticks: number(reader, tag::START_TIME_TICKS)?,
            network_namespace: flag(reader, tag::NETWORK_NAMESPACE)?,
        },
        kind::CREATE_FAILED => Notice::CreateFailed(decode_failure(reader)?),
        kind::STARTED => Notice::Started,
        kind::EXITED => {
            Notice::Exited { status: required_status(reader)?, oom_killed: flag(reader, tag::OOM_KILLED)? }
        }
        kind::EXEC_EXITED => {
            Notice::ExecExited { exec_id: text(reader, tag::EXEC_ID)?, status: required_status(reader)? }
        }
        kind::OOM => Notice::Oom { kills: number(reader, tag::OOM_KILLS)? },
        kind => return Err(ProtocolError::UnknownKind { kind }),
    })
}

fn encode_state(writer: &mut Writer, report: &StateReport) -> Result<(), ProtocolError> {
    let phase: u8 = match report.phase {
        Phase::Creating => 1,
        Phase::Created => 2,
        Phase::Running => 3,
        Phase::Exited => 4,
    };
    writer.field(tag::ID, report.id.as_bytes())?;
    writer.field(tag::GENERATION, &report.generation.to_le_bytes())?;
    writer.field(tag::PHASE, &[phase])?;
    writer.field(tag::PID, &report.pid.to_le_bytes())?;
    writer.field(tag::START_TIME_TICKS, &report.start_time_ticks.to_le_bytes())?;
    if let Some(status) = report.exit {
        writer.field(tag::STATUS, &status_bytes(status))?;
    }
    writer.field(tag::OOM_KILLS, &report.oom_kills.to_le_bytes())?;
    writer.field(tag::LOG_DROPPED_BYTES, &report.log_dropped_bytes.to_le_bytes())?;
    writer.field(tag::NETWORK_NAMESPACE, &[u8::from(report.network_namespace)])?;
    for exec in &report.execs {
        let mut value = exec.pid.to_le_bytes().to_vec();
        value.extend_from_slice(exec.exec_id.as_bytes());
        writer.field(tag::RUNNING_EXEC, &value)?;
    }
    Ok(())
}

fn decode_state(reader: &mut Reader<'_>) -> Result<StateReport, ProtocolError> {
    let phase = match reader.required(tag::PHASE)? {
        [1] => Phase::Creating,
        [2] => Phase::Created,
        [3] => Phase::Running,
        [4] => Phase::Exited,
        _ => return Err(ProtocolError::Value { tag: tag::PHASE }),
    };
    Ok(StateReport {
        id: text(reader, tag::ID)?,
        generation: number(reader, tag::GENERATION)?,
        phase,
        pid: integer(reader, tag::PID)?,
        start_time_ticks: number(reader, tag::START_TIME_TICKS)?,
        exit: reader.optional(tag::STATUS)?.map(status_from).transpose()?,
        oom_kills: number(reader, tag::OOM_KILLS)?,
        log_dropped_bytes: number(reader, tag::LOG_DROPPED_BYTES)?,
        network_namespace: flag(reader, tag::NETWORK_NAMESPACE)?,
        execs: reader.list(tag::RUNNING_EXEC).into_iter().map(exec_from).collect::<Result<_, _>>()?,
    })
}

fn exec_from(value: &[u8]) -> Result<RunningExec, ProtocolError> {
    let wrong = ProtocolError::Value { tag: tag::RUNNING_EXEC };
    let (pid, exec_id) = value.split_first_chunk().ok_or_else(|| wrong.clone())?;
    let exec_id = str::from_utf8(exec_id).map_err(|_not_text| wrong)?.to_owned();
    Ok(RunningExec { exec_id, pid: i32::from_le_bytes(*pid) })
}

fn encode_failure(writer: &mut Writer, failure: &Failure) -> Result<(), ProtocolError> {
    let end = failure.message.floor_char_boundary(FAILURE_TEXT_MAX_BYTES);
    writer.field(tag::STAGE, failure.stage.as_bytes())?;
    writer.field(tag::ERRNO, &failure.errno.to_le_bytes())?;
    writer.field(tag::MESSAGE, failure.message.as_bytes().get(..end).unwrap_or_default())
}

fn decode_failure(reader: &mut Reader<'_>) -> Result<Failure, ProtocolError> {
    Ok(Failure {
        stage: text(reader, tag::STAGE)?,
        errno: integer(reader, tag::ERRNO)?,
        message: text(reader, tag::MESSAGE)?,
    })
}

fn status_bytes(status: ExitStatus) -> [u8; 5] {
    let (form, number) = match status {
        ExitStatus::Code(code) => (1, code),
        ExitStatus::Signal(signo) => (2, signo),
        ExitStatus::Unknown => (3, 0),
    };
    let [a, b, c, d] = number.to_le_bytes();
    [form, a, b, c, d]
}

fn status_from(value: &[u8]) -> Result<ExitStatus, ProtocolError> {
    match *value {
        [1, a, b, c, d] => Ok(ExitStatus::Code(i32::from_le_bytes([a, b, c, d]))),
        [2, a, b, c, d] => Ok(ExitStatus::Signal(i32::from_le_bytes([a, b, c, d]))),
        [3, 0, 0, 0, 0] => Ok(ExitStatus::Unknown),
        _ => Err(ProtocolError::Value { tag: tag::STATUS }),
    }
}

fn required_status(reader: &mut Reader<'_>) -> Result<ExitStatus, ProtocolError> {
    status_from(reader.required(tag::STATUS)?)
}

fn text(reader: &mut Reader<'_>, tag: u16) -> Result<String, ProtocolError> {
    let value = reader.required(tag)?;
    Ok(str::from_utf8(value).map_err(|_not_text| ProtocolError::Value { tag })?.to_owned())
}

fn number(reader: &mut Reader<'_>, tag: u16) -> Result<u64, ProtocolError> {
    let value = reader.required(tag)?;
    Ok(u64::from_le_bytes(value.try_into().map_err(|_length| ProtocolError::Value { tag })?))
}

fn integer(reader: &mut Reader<'_>, tag: u16) -> Result<i32, ProtocolError> {
    let value = reader.required(tag)?;
    Ok(i32::from_le_bytes(value.try_into().map_err(|_length| ProtocolError::Value { tag })?))
}

fn flag(reader: &mut Reader<'_>, tag: u16) -> Result<bool, ProtocolError> {
    match reader.required(tag)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(ProtocolError::Value { tag }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status() -> impl Strategy<Value = ExitStatus> {
        prop_oneof![
            any::<i32>().prop_map(ExitStatus::Code),
            any::<i32>().prop_map(ExitStatus::Signal),
            Just(ExitStatus::Unknown)
        ]
    }

    fn failure() -> impl Strategy<Value = Failure> {
        (".{0,40}", any::<i32>(), ".{0,200}").prop_map(|(stage, errno, message)| Failure {
            stage,
            errno,
            message,
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Ping),
            Just(Request::Quit),
            (".{0,64}", any::<u64>()).prop_map(|(id, generation)| Request::Launch { id, generation }),
            Just(Request::Start),
            (any::<i32>(), any::<bool>()).prop_map(|(signo, all)| Request::Signal { signo, all }),
            any::<(bool, bool, bool)>().prop_map(|(stdin, stdout, stderr)| Request::Exec {
                stdin,
                stdout,
                stderr
            }),
            (".{0,64}", any::<i32>()).prop_map(|(exec_id, signo)| Request::ExecSignal { exec_id, signo }),
            Just(Request::Stdin),
            Just(Request::CloseStdin),
            Just(Request::State),
            Just(Request::Release),
        ]
    }

    fn state() -> impl Strategy<Value = StateReport> {
        let phase = prop_oneof![
            Just(Phase::Creating),
            Just(Phase::Created),
            Just(Phase::Running),
            Just(Phase::Exited)
        ];
        let execs = prop::collection::vec(
            (".{0,64}", any::<i32>()).prop_map(|(exec_id, pid)| RunningExec { exec_id, pid }),
            0..8,
        );
        (
            (".{0,64}", any::<u64>(), phase, any::<i32>(), any::<u64>()),
            (prop::option::of(status()), any::<u64>(), any::<u64>(), any::<bool>(), execs),
        )
            .prop_map(
                |(
                    (id, generation, phase, pid, start_time_ticks),
                    (exit, oom_kills, log_dropped_bytes, network_namespace, execs),
                )| StateReport {
                    id,
                    generation,
                    phase,
                    pid,
                    start_time_ticks,
                    exit,
                    oom_kills,
                    log_dropped_bytes,
                    network_namespace,
                    execs,
                },
            )
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            Just(Reply::Done),
            failure().prop_map(Reply::Failed),
            any::<(u64, i32)>().prop_map(|(build_id, pid)| Reply::Forge { build_id, pid }),
            any::<i32>().prop_map(|shim_pid| Reply::Launched { shim_pid }),
            any::<(i32, bool)>().prop_map(|(pid, terminal)| Reply::ExecStarted { pid, terminal }),
            Just(Reply::Stdin),
            state().prop_map(Reply::State),
        ]
    }

    fn notice() -> impl Strategy<Value = Notice> {
        prop_oneof![
            any::<(i32, u64, bool)>().prop_map(|(pid, start_time_ticks, network_namespace)| {
                Notice::Created { pid, start_time_ticks, network_namespace }
            }),
            failure().prop_map(Notice::CreateFailed),
            Just(Notice::Started),
            (status(), any::<bool>()).prop_map(|(status, oom_killed)| Notice::Exited { status, oom_killed }),
            (".{0,64}", status()).prop_map(|(exec_id, status)| Notice::ExecExited { exec_id, status }),
            any::<u64>().prop_map(|kills| Notice::Oom { kills }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let seq = || any::<Seq>();
        prop_oneof![
            (seq(), request()).prop_map(|(seq, request)| Message::Request { seq, request }),
            (seq(), reply()).prop_map(|(seq, reply)| Message::Reply { seq, reply }),
            notice().prop_map(Message::Notice),
        ]
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(message in message()) {
            let bytes = message.encode().expect("small message");
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        /// Attacks: H9.
        #[test]
        fn random_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Message::decode(&bytes).is_err());
        }

        #[test]
        fn a_damaged_message_never_panics_and_never_reads_as_the_same(
            message in message(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let mut bytes = message.encode().expect("small message");
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_ne!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn a_truncated_message_never_reads_as_the_same(
            message in message(), at in any::<prop::sample::Index>(),
        ) {
            let bytes = message.encode().expect("small message");
            prop_assert_ne!(Message::decode(&bytes[..at.index(bytes.len())]), Ok(message));
        }

        #[test]
        fn fields_that_may_be_skipped_are_skipped(
            message in message(), tag in OPTIONAL.., value in prop::collection::vec(any::<u8>(), 0..32),
        ) {
            let mut bytes = message.encode().expect("small message");
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(value.len()).expect("short").to_le_bytes());
            bytes.extend_from_slice(&value);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
        }

        #[test]
        fn unknown_fields_that_may_not_be_skipped_are_refused(message in message(), tag in 100..OPTIONAL) {
            let mut bytes = message.encode().expect("small message");
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&0_u16.to_le_bytes());
            let refused = matches!(Message::decode(&bytes), Err(ProtocolError::UnknownField { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn a_repeated_field_is_refused() {
        let mut bytes = Message::Notice(Notice::Oom { kills: 1 }).encode().expect("small message");
        let field = bytes[12..].to_vec();
        bytes.extend_from_slice(&field);
        assert_eq!(Message::decode(&bytes), Err(ProtocolError::Repeated { tag: tag::OOM_KILLS }));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Message::Notice(Notice::Started).encode().expect("small message");
        bytes[4] = 9;
        assert_eq!(Message::decode(&bytes), Err(ProtocolError::Version { theirs: 9 }));
    }

    #[test]
    fn a_notice_with_a_number_and_a_request_without_one_are_refused() {
        let mut notice = Message::Notice(Notice::Started).encode().expect("small message");
        notice[8] = 1;
        assert_eq!(Message::decode(&notice), Err(ProtocolError::Sequence { kind: kind::STARTED }));
        let request = Message::Request { seq: Seq::MIN, request: Request::State };
        let mut request = request.encode().expect("small message");
        request[8] = 0;
        assert_eq!(Message::decode(&request), Err(ProtocolError::Sequence { kind: kind::STATE }));
    }

    #[test]
    fn a_message_that_would_be_too_long_is_not_written() {
        let id = "x".repeat(MAX_MESSAGE_BYTES);
        let message = Message::Request { seq: Seq::MIN, request: Request::Launch { id, generation: 1 } };
        assert!(matches!(message.encode(), Err(ProtocolError::FieldTooLarge { .. })));
    }
}
