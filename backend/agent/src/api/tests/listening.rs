//! The API on a real socket: connections, TLS, WebSocket handshakes (SECURITY.md H2), and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use wharf_shared::user::Role;

use super::world::{Who, World};
use crate::api::serve::{Doors, serve};
use crate::config::{Config, Tls, TlsMode};
use crate::tasks::{OnEnd, Tasks};

/// Everything here happens on loopback; what takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A router that listens.
struct Door {
    address: SocketAddr,
    stopping: CancellationToken,
    tasks: Tasks,
}

impl Door {
    async fn open(world: &World, tls: Option<Arc<ServerConfig>>, max_connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stopping, tasks) = (CancellationToken::new(), Tasks::default());
        let doors = Doors { tls, max_connections, grace: Duration::from_millis(200) };
        tasks.spawn("door", OnEnd::Fine, serve(world.router.clone(), listener, doors, stopping.clone()));
        Self { address, stopping, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Asks it to stop; fails if it does not.
    async fn close(self) {
        self.stopping.cancel();
        let stopped = tokio::time::timeout(PATIENCE, self.tasks.stop(PATIENCE)).await;
        assert!(stopped.is_ok(), "it does not stop");
    }
}

/// Sends a request and reads until the head of the answer is there.
async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut piece = [0; 4_096];
        let read =
            tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.expect("in time").expect("read");
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(answer).expect("text")
}

fn health(extra: &str) -> String {
    format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n")
}

#[tokio::test]
async fn a_connection_is_kept_and_ends_when_the_agent_stops() {
    let world = World::new().await;
    let door = Door::open(&world, None, 10).await;
    let mut stream = door.connect().await;
    for _ in 0..2 {
        assert!(talk(&mut stream, &health("")).await.starts_with("HTTP/1.1 200 "));
    }
    door.close().await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time");
    assert_eq!(read.expect("closed, not broken"), 0);
}

#[tokio::test]
async fn half_a_request_does_not_keep_the_agent_from_stopping() {
    let world = World::new().await;
    let door = Door::open(&world, None, 10).await;
    let mut stream = door.connect().await;
    stream
        .write_all(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        .await
        .expect("sent");
    door.close().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_their_turn() {
    let world = World::new().await;
    let door = Door::open(&world, None, 1).await;
    let mut first = door.connect().await;
    assert!(talk(&mut first, &health("")).await.starts_with("HTTP/1.1 200 "));
    let mut second = door.connect().await;
    second.write_all(health("").as_bytes()).await.expect("sent");
    let mut byte = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "there was no place for it");
    drop(first);
    assert!(talk(&mut second, "").await.starts_with("HTTP/1.1 200 "));
    door.close().await;
}

#[tokio::test]
async fn a_generated_certificate_is_what_clients_see() {
    let world = World::new().await;
    let config = Config {
        state_dir: world.dir.path().to_owned(),
        tls: Tls { mode: TlsMode::Generate, ..Tls::default() },
        ..Config::default()
    };
    let identity = crate::tls::load(&config).expect("generated").expect("an identity");
    let door = Door::open(&world, Some(identity.config), 10).await;
    let mut roots = RootCertStore::empty();
    let pem =
        CertificateDer::from_pem_file(world.dir.path().join("tls/identity.pem")).expect("a certificate");
    roots.add(pem).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, door.connect().await).await.expect("a handshake");
    assert!(talk(&mut stream, &health("")).await.starts_with("HTTP/1.1 200 "));
    // Somebody who speaks no TLS gets nothing, and disturbs nobody.
    let mut plain = door.connect().await;
    assert!(!talk(&mut plain, &health("")).await.starts_with("HTTP/1.1"));
    door.close().await;
}

/// Attacks: H2.
#[tokio::test]
async fn a_websocket_needs_our_origin_or_a_token_and_a_cookie_is_neither() {
    let world = World::new().await;
    world.user("ada", Role::Admin, None).await;
    let Who::Browser { cookie, .. } = world.browser("ada").await else { panic!("a browser") };
    let Who::Token(token) = world.caller("bob", Role::Operator, None).await else { panic!("a token") };
    let door = Door::open(&world, None, 10).await;
    let shake = async |headers: String| {
        let request = format!(
            "GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: wharf.v1.json\r\n{headers}\r\n"
        );
        let answer = talk(&mut door.connect().await, &request).await;
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    let cookie = format!("Cookie: {cookie}\r\n");
    assert_eq!(shake(cookie.clone()).await, "403", "a cookie without an Origin");
    assert_eq!(shake(format!("{cookie}Origin: http://evil.example\r\n")).await, "403", "another page");
    assert_eq!(
        shake("Origin: http://evil.example\r\n".to_owned()).await,
        "403",
        "another page without a cookie"
    );
    assert_eq!(shake("Authorization: Bearer wharf_nonsense\r\n".to_owned()).await, "401", "a wrong token");
    assert_eq!(shake(format!("Authorization: Bearer {token}\r\n")).await, "101", "a tool");
    // The dashboard's own page gets its socket; its first frame then needs a ticket.
    assert_eq!(shake(format!("{cookie}Origin: http://localhost\r\n")).await, "101", "our page");
    door.close().await;
}
