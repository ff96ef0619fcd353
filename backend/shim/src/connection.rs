//! A connection that carries [`Message`]s and descriptors: `SOCK_SEQPACKET`, path names only.
//!
//! Both ends check that the other is run by the same user (`SO_PEERCRED`; root). Sockets are
//! bound and connected through a descriptor of their directory, because `sun_path` has 108 bytes
//! and a container id alone has 64. Nothing here blocks but the functions that take a timeout.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, recvmsg, sendmsg, socket_with, socketpair, sockopt,
};

use crate::protocol::{MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, Message, ProtocolError, Seq, wire};

/// Pending connections that the kernel keeps for a listener.
const BACKLOG: i32 = 16;
/// Space for more descriptors than any message has, so that none is lost unseen.
const ANCILLARY_DESCRIPTORS: usize = 2 * MAX_DESCRIPTORS;

/// A connection that could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The directory of a socket could not be opened.
    #[error("could not open the directory of the socket {path}", path = path.display())]
    Directory {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// Nobody listens at the path, or it cannot be bound.
    #[error("could not {call} the socket {path}", path = path.display())]
    Socket {
        /// The step that failed.
        call: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A system call on the connected socket failed.
    #[error("could not {call} on the connection")]
    Call {
        /// The step that failed.
        call: &'static str,
        /// Why.
        source: Errno,
    },
    /// The other end belongs to somebody else.
    #[error("the other end of the connection is run by user {uid}")]
    ForeignPeer {
        /// Its user.
        uid: u32,
    },
    /// The other end is gone.
    #[error("the connection is closed")]
    Closed,
    /// The message cannot be written.
    #[error("could not write a message")]
    Encode(#[source] ProtocolError),
    /// The message cannot be read.
    #[error("could not read a message")]
    Decode {
        /// The number of the request, for a refusal.
        seq: Option<Seq>,
        /// Why.
        source: ProtocolError,
    },
    /// A message came with too few or too many descriptors.
    #[error("a message came with {got} descriptors instead of {expected}")]
    Descriptors {
        /// The number of the request, for a refusal.
        seq: Option<Seq>,
        /// As many as belong to it.
        expected: usize,
        /// As many as came.
        got: usize,
    },
    /// Nothing came in time.
    #[error("no answer within {timeout:?}")]
    Timeout {
        /// How long was waited.
        timeout: Duration,
    },
}

impl ConnectionError {
    /// Tells whether nobody listens: there is no socket, or a dead one.
    pub fn nobody_listens(&self) -> bool {
        matches!(
            self,
            Self::Socket { source: Errno::NOENT | Errno::CONNREFUSED, .. }
                | Self::Directory { source: Errno::NOENT, .. }
        )
    }

    /// Tells whether a send failed only because the other end does not read.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Call { source: Errno::AGAIN, .. })
    }
}

/// A message and its descriptors.
#[derive(Debug)]
pub struct Received {
    /// What was said.
    pub message: Message,
    /// What came with it; exactly [`Message::descriptors`] of them.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection; non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Makes two connected ends.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn pair() -> Result<(Self, Self), ConnectionError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (left, right) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|source| ConnectionError::Call { call: "make a socket pair", source })?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    /// Takes a connected socket that came as a descriptor.
    ///
    /// # Errors
    /// When it is no seqpacket socket, or its other end belongs to another user.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, ConnectionError> {
        let call = |call| move |source| ConnectionError::Call { call, source };
        let kind = sockopt::socket_type(&socket).map_err(call("ask for the socket's type"))?;
        if kind != SocketType::SEQPACKET {
            return Err(ConnectionError::Call { call: "use a stream", source: Errno::PROTOTYPE });
        }
        rustix::io::ioctl_fionbio(&socket, true).map_err(call("set O_NONBLOCK"))?;
        let connection = Self { socket };
        connection.check_peer()?;
        Ok(connection)
    }

    /// Connects to a listener and checks who runs it.
    ///
    /// # Errors
    /// [`ConnectionError::nobody_listens`] tells a missing or dead listener from other failures.
    pub fn connect(path: &Path) -> Result<Self, ConnectionError> {
        let failed = |call| move |source| ConnectionError::Socket { call, path: path.to_owned(), source };
        let socket = new_socket().map_err(failed("make"))?;
        let (_directory, address) = short_address(path)?;
        connect(&socket, &address).map_err(failed("connect to"))?;
        let connection = Self { socket };
        connection.check_peer()?;
        Ok(connection)
    }

    /// Returns the pid of the process that connected, listened or made the pair.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn peer_pid(&self) -> Result<i32, ConnectionError> {
        Ok(self.peer()?.pid.as_raw_nonzero().get())
    }

    /// Sends one message with its descriptors; never waits.
    ///
    /// # Errors
    /// [`ConnectionError::is_full`] when the other end does not read, [`ConnectionError::Closed`] when it is gone.
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        let expected = message.descriptors();
        if descriptors.len() != expected {
            return Err(ConnectionError::Descriptors { seq: None, expected, got: descriptors.len() });
        }
        let bytes = message.encode().map_err(ConnectionError::Encode)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ConnectionError::Descriptors {
                seq: None,
                expected: MAX_DESCRIPTORS,
                got: descriptors.len(),
            });
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            return match sendmsg(&self.socket, &[io::IoSlice::new(&bytes)], &mut ancillary, flags) {
                Ok(_) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(ConnectionError::Closed),
                Err(source) => Err(ConnectionError::Call { call: "send", source }),
            };
        }
    }

    /// Receives one message if one is there; never waits.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] when the other end is gone; after [`ConnectionError::Decode`] and
    /// [`ConnectionError::Descriptors`] the connection may be used on.
    pub fn try_recv(&self) -> Result<Option<Received>, ConnectionError> {
        // Most messages are short; a page that is never touched costs a supervisor nothing.
        let Some(length_bytes) = self.next_length()? else { return Ok(None) };
        let mut bytes = vec![0; length_bytes.clamp(1, MAX_MESSAGE_BYTES)];
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ANCILLARY_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let result = loop {
            match recvmsg(&self.socket, &mut [io::IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        let received = match result {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(ConnectionError::Closed),
            Err(source) => return Err(ConnectionError::Call { call: "receive", source }),
        };
        // Taken before anything can fail, so that they are closed and not leaked.
        let descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        // A packet is never empty in this protocol.
        if received.bytes == 0 {
            return Err(ConnectionError::Closed);
        }
        let bytes = bytes.get(..received.bytes).unwrap_or_default();
        let refused = |source| ConnectionError::Decode { seq: wire::seq_of(bytes), source };
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(refused(ProtocolError::MessageTooLarge { length_bytes: MAX_MESSAGE_BYTES + 1 }));
        }
        let message = Message::decode(bytes).map_err(refused)?;
        let expected = message.descriptors();
        if descriptors.len() != expected || received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ConnectionError::Descriptors {
                seq: wire::seq_of(bytes),
                expected,
                got: descriptors.len(),
            });
        }
        Ok(Some(Received { message, descriptors }))
    }

    /// The length of the message that is there, 0 at the end.
    fn next_length(&self) -> Result<Option<usize>, ConnectionError> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
        loop {
            return match recv(&self.socket, &mut [0_u8; 1], flags) {
                Ok((_, length_bytes)) => Ok(Some(length_bytes)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::CONNRESET) => Err(ConnectionError::Closed),
                Err(source) => Err(ConnectionError::Call { call: "receive", source }),
            };
        }
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// [`ConnectionError::Timeout`], and those of [`Connection::try_recv`].
    pub fn recv(&self, timeout: Duration) -> Result<Received, ConnectionError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(received) = self.try_recv()? {
                return Ok(received);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectionError::Timeout { timeout });
            }
            wait_readable(self.as_fd(), left)
                .map_err(|source| ConnectionError::Call { call: "wait for a message", source })?;
        }
    }

    fn peer(&self) -> Result<rustix::net::UCred, ConnectionError> {
        sockopt::socket_peercred(&self.socket)
            .map_err(|source| ConnectionError::Call { call: "ask who the other end is", source })
    }

    fn check_peer(&self) -> Result<(), ConnectionError> {
        let peer = self.peer()?;
        if peer.uid == rustix::process::geteuid() {
            Ok(())
        } else {
            Err(ConnectionError::ForeignPeer { uid: peer.uid.as_raw() })
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.socket
    }
}

/// A socket that others connect to.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens at `path`, in place of a dead socket that may be there. The caller makes sure that
    /// no living process listens there.
    ///
    /// # Errors
    /// When the directory is missing or the kernel refuses.
    pub fn bind(path: &Path) -> Result<Self, ConnectionError> {
        let failed = |call| move |source| ConnectionError::Socket { call, path: path.to_owned(), source };
        match rustix::fs::unlink(path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(source) => return Err(failed("remove")(source)),
        }
        let socket = new_socket().map_err(failed("make"))?;
        let (_directory, address) = short_address(path)?;
        bind(&socket, &address).map_err(failed("bind"))?;
        listen(&socket, BACKLOG).map_err(failed("listen on"))?;
        Ok(Self { socket })
    }

    /// Takes one waiting connection if there is one.
    ///
    /// # Errors
    /// [`ConnectionError::ForeignPeer`] when another user connected.
    pub fn accept(&self) -> Result<Option<Connection>, ConnectionError> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => {
                let connection = Connection { socket };
                connection.check_peer()?;
                Ok(Some(connection))
            }
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(source) => Err(ConnectionError::Call { call: "accept", source }),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until a descriptor is readable or `timeout` has passed; an interruption counts as neither.
///
/// # Errors
/// What poll(2) refuses.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool, Errno> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// The address of a socket through its directory's descriptor, which must live as long as it is used.
fn short_address(path: &Path) -> Result<(OwnedFd, SocketAddrUnix), ConnectionError> {
    let failed = |source| ConnectionError::Directory { path: path.to_owned(), source };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(Errno::INVAL));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(directory, flags, Mode::empty()).map_err(failed)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(short).map_err(failed)?;
    Ok((directory, address))
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} descriptors", self.message, self.descriptors.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;
    use crate::protocol::{Notice, Reply, Request};

    const SOON: Duration = Duration::from_secs(5);

    fn request(request: Request) -> Message {
        Message::Request { seq: Seq::MIN, request }
    }

    #[test]
    fn messages_and_descriptors_arrive() {
        let (left, right) = Connection::pair().expect("pair");
        let (mut reader, writer) = io::pipe().expect("pipe");
        let message = Message::Reply { seq: Seq::MIN, reply: Reply::Stdin };
        left.send(&message, &[writer.as_fd()]).expect("send");
        drop(writer);
        let mut received = right.recv(SOON).expect("receive");
        assert_eq!(received.message, message);
        let mut file = File::from(received.descriptors.pop().expect("one descriptor"));
        file.write_all(b"through").expect("write");
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn a_message_with_the_wrong_number_of_descriptors_is_not_sent() {
        let (left, _right) = Connection::pair().expect("pair");
        let fd = rustix::io::dup(&left).expect("dup");
        let error = left.send(&request(Request::State), &[fd.as_fd()]).expect_err("refused");
        assert!(matches!(error, ConnectionError::Descriptors { expected: 0, got: 1, .. }));
    }

    /// Attacks: H9.
    #[test]
    fn unexpected_descriptors_are_refused_and_closed() {
        let (left, right) = Connection::pair().expect("pair");
        let (mut reader, writer) = io::pipe().expect("pipe");
        let bytes = request(Request::State).encode().expect("small message");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [writer.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&left, &[io::IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).expect("send");
        drop(writer);
        let error = right.recv(SOON).expect_err("refused");
        assert!(matches!(error, ConnectionError::Descriptors { expected: 0, got: 1, .. }));
        assert_eq!(reader.read(&mut [0]).expect("end of file, as no writer is left"), 0);
    }

    #[test]
    fn an_unreadable_message_names_its_request_and_the_connection_lives_on() {
        let (left, right) = Connection::pair().expect("pair");
        let mut bytes = request(Request::State).encode().expect("small message");
        bytes[6] = 0xff;
        rustix::net::send(&left, &bytes, SendFlags::NOSIGNAL).expect("send");
        let error = right.recv(SOON).expect_err("refused");
        assert!(matches!(error, ConnectionError::Decode { seq: Some(Seq::MIN), .. }), "{error}");
        left.send(&request(Request::State), &[]).expect("send");
        assert_eq!(right.recv(SOON).expect("receive").message, request(Request::State));
    }

    #[test]
    fn a_gone_peer_reads_and_writes_as_closed() {
        let (left, right) = Connection::pair().expect("pair");
        drop(right);
        assert!(matches!(left.recv(SOON), Err(ConnectionError::Closed)));
        assert!(matches!(left.send(&request(Request::State), &[]), Err(ConnectionError::Closed)));
    }

    #[test]
    fn a_peer_that_does_not_read_fills_the_connection_instead_of_blocking_it() {
        let (left, _right) = Connection::pair().expect("pair");
        let error = (0..100_000)
            .find_map(|_| left.send(&Message::Notice(Notice::Started), &[]).err())
            .expect("full at last");
        assert!(error.is_full(), "{error}");
    }

    #[test]
    fn a_path_longer_than_a_socket_address_can_be_bound_and_connected() {
        let dir = tempfile::tempdir().expect("temp dir");
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(64));
        std::fs::create_dir_all(&deep).expect("make directory");
        let path = deep.join("shim.sock");
        let listener = Listener::bind(&path).expect("bind");
        let client = Connection::connect(&path).expect("connect");
        let server = listener.accept().expect("accept").expect("one waits");
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert_eq!(client.peer_pid().expect("peer"), own);
        client.send(&request(Request::Ping), &[]).expect("send");
        assert_eq!(server.recv(SOON).expect("receive").message, request(Request::Ping));
        drop(listener);
        let error = Connection::connect(&path).expect_err("dead socket");
        assert!(error.nobody_listens(), "{error}");
        Listener::bind(&path).expect("a dead socket is replaced");
    }

    #[test]
    fn a_stream_socket_is_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("pair");
        assert!(Connection::from_socket(stream.into()).is_err());
    }

    #[test]
    fn waiting_ends_with_the_timeout() {
        let (left, _right) = Connection::pair().expect("pair");
        let timeout = Duration::from_millis(10);
        assert!(matches!(left.recv(timeout), Err(ConnectionError::Timeout { .. })));
    }
}
