//! The agent as a service of systemd: telling that it is ready, and keeping secrets out of the journal.
//!
//! Both by what systemd puts into the environment, and by one datagram; without systemd nothing happens. Sources:
//! `sd_notify(3)`, systemd.exec(5) (`JOURNAL_STREAM`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells whoever started us that the agent is ready.
pub(crate) fn ready() {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, b"READY=1")
    {
        tracing::warn!(error = %error, "systemd does not hear that the agent is ready");
    }
}

fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

/// Whether what we print goes into the journal, which more people read than may become admin.
pub(crate) fn prints_to_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else { return false };
    // Programs that a service starts inherit the variable, and may print elsewhere.
    nix::sys::stat::fstat(io::stdout().as_fd())
        .is_ok_and(|stdout| is_stream(&stream, stdout.st_dev, stdout.st_ino))
}

/// Compares `JOURNAL_STREAM` (`device:inode`) with a descriptor.
fn is_stream(stream: &OsStr, device: u64, inode: u64) -> bool {
    stream.to_str() == Some(&format!("{device}:{inode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("wharf-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        for (socket, given) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            send(&given, b"READY=1").expect("sent");
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).expect("received");
            assert_eq!(&buffer[..length], b"READY=1", "{}", given.display());
        }
        assert!(send(OsStr::new("/nowhere/notify"), b"READY=1").is_err());
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_stream(OsStr::new("8:12345"), 8, 12_345));
        assert!(!is_stream(OsStr::new("8:12345"), 8, 12_346));
        assert!(!is_stream(OsStr::new(""), 8, 12_345));
    }
}
