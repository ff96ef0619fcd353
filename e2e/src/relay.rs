//! A line that breaks: passes TCP connections on, and cuts each after so many bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

/// Where a relay listens, and how to end it.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    cut: AtomicU32,
}

impl Relay {
    /// Passes what comes to a port of `host` on to `to`; each connection is cut once `bytes` of
    /// the answer have passed, in the middle of whatever they are.
    pub fn start(host: &str, to: SocketAddr, bytes: usize) -> Result<Self> {
        let listener = TcpListener::bind((host, 0)).with_context(|| format!("listen on {host}"))?;
        let address = listener.local_addr().context("read the relay's address")?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            for client in listener.incoming() {
                if own.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                let shared = Arc::clone(&own);
                // Each ends with its connection.
                std::thread::spawn(move || pass_on(&client, &server, bytes, &shared));
            }
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has cut.
    pub fn cut(&self) -> u32 {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn pass_on(client: &TcpStream, server: &TcpStream, bytes: usize, shared: &Shared) {
    std::thread::scope(|scope| {
        // A connection that broke has ended; whoever used it tells.
        scope.spawn(|| drop(copy(client, server, usize::MAX)));
        if copy(server, client, bytes).is_ok_and(|passed| passed == bytes) {
            shared.cut.fetch_add(1, Ordering::SeqCst);
        }
        drop(client.shutdown(Shutdown::Both));
        drop(server.shutdown(Shutdown::Both));
    });
}

/// Copies at most so many bytes and tells how many it were.
fn copy(mut from: &TcpStream, mut to: &TcpStream, most: usize) -> std::io::Result<usize> {
    let mut passed = 0;
    let mut buffer = [0; 4_096];
    while passed < most {
        let space = buffer.len().min(most - passed);
        let read = match from.read(&mut buffer[..space]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..read])?;
        passed += read;
    }
    drop(to.shutdown(Shutdown::Write));
    Ok(passed)
}
