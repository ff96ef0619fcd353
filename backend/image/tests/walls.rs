//! What a hole in a parser would give: code that runs where archives are read, and what the kernel refuses it.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sys::signal::kill;
use nix::unistd::getppid;
use support::{Host, Tar};
use wharf_image::{Limits, Root};
use wharf_sys::landlock;

/// Runs at the first byte that is read or written: inside the parser, as its own code would.
#[derive(Clone)]
struct Exploit {
    /// A directory of the host that is none of the parser's.
    outside: PathBuf,
    tcp: Arc<TcpListener>,
    socket: Arc<UnixListener>,
    got_through: Arc<Mutex<Option<Vec<&'static str>>>>,
}

impl Exploit {
    fn new(outside: &Path) -> Self {
        fs::create_dir_all(outside).expect("directory");
        fs::write(outside.join("canary"), "here").expect("file");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let name = format!("wharf-walls-{}", tcp.local_addr().expect("an address").port());
        let name = SocketAddr::from_abstract_name(name).expect("a name");
        Self {
            outside: outside.to_owned(),
            tcp: Arc::new(tcp),
            socket: Arc::new(UnixListener::bind_addr(&name).expect("a socket")),
            got_through: Arc::default(),
        }
    }

    fn attempt(&self) {
        let mut found = self.got_through.lock().expect("whole");
        if found.is_some() {
            return;
        }
        let at = |name: &str| self.outside.join(name);
        let version = landlock::abi().unwrap_or(0);
        let tcp = self.tcp.local_addr().expect("an address");
        let abstract_name = self.socket.local_addr().expect("an address");
        let attempts: [(i64, &str, io::Result<()>); 11] = [
            (2, "read the passwords", File::open("/etc/shadow").map(drop)),
            (2, "list the root", fs::read_dir("/").map(drop)),
            (2, "read outside", File::open(at("canary")).map(drop)),
            (2, "write outside", File::options().append(true).open(at("canary")).map(drop)),
            (2, "make outside", File::create_new(at("planted")).map(drop)),
            (2, "remove outside", fs::remove_file(at("canary"))),
            (2, "link from outside", fs::hard_link(at("canary"), at("second"))),
            (2, "run a program", Command::new("/bin/true").status().map(drop)),
            (4, "connect by TCP", TcpStream::connect(tcp).map(drop)),
            (6, "reach an abstract socket", UnixStream::connect_addr(&abstract_name).map(drop)),
            (6, "signal another process", kill(getppid(), None).map_err(io::Error::from)),
        ];
        let through = attempts.into_iter().filter(|(since, _, outcome)| {
            version >= *since
                && !outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        });
        *found = Some(through.map(|(_, what, _)| what).collect());
    }

    fn assert_refused(&self, wherein: &str) {
        let found = self.got_through.lock().expect("whole");
        assert_eq!(found.as_deref(), Some(&[][..]), "{wherein}");
        assert_eq!(fs::read_to_string(self.outside.join("canary")).expect("still there"), "here");
        // Only that thread was confined.
        File::open(self.outside.join("canary")).expect("readable from here");
    }
}

/// Bytes that come with code.
struct Laden<T>(Exploit, T);

impl<T: Read> Read for Laden<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.attempt();
        self.1.read(buffer)
    }
}

impl<T: Write> Write for Laden<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.attempt();
        self.1.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

/// Attacks: D11.
#[tokio::test]
async fn code_in_the_reader_of_image_archives_reaches_nothing_of_the_host() {
    let host = Host::new(Limits::default());
    let exploit = Exploit::new(&host.outside());
    let archive = Tar::default().file("bin/true", "x").hard_link("sbin/true", "bin/true").end();
    let options = wharf_image::ImportOptions {
        reference: Some("walled".parse().expect("a name")),
        ..wharf_image::ImportOptions::default()
    };
    let lease = host.store.lease();
    let images = host.store.import(&lease, Laden(exploit.clone(), io::Cursor::new(archive)), options).await;
    assert_eq!(images.expect("imported all the same").len(), 1);
    exploit.assert_refused("import");
}

/// Attacks: D11.
#[test]
fn code_in_the_copier_of_files_reaches_nothing_of_the_host() {
    let dir = tempfile::tempdir().expect("directory");
    let (upper, image) = (dir.path().join("upper"), dir.path().join("image"));
    fs::create_dir_all(&upper).expect("directory");
    fs::create_dir_all(image.join("etc")).expect("directory");
    fs::write(image.join("etc/file"), "x").expect("file");
    let root = Root::open(&upper, &[image], 0).expect("opens");
    let archive = Tar::default().file("a/new", "x").hard_link("b/second", "a/new").end();

    let exploit = Exploit::new(&dir.path().join("elsewhere"));
    let laden = Laden(exploit.clone(), &archive[..]);
    let placed = root.place(Path::new("/etc"), laden, &Limits::default(), true).expect("copied all the same");
    assert_eq!(placed.entries, 2);
    exploit.assert_refused("copy in");

    let exploit = Exploit::new(&dir.path().join("elsewhere"));
    root.pack_path(Path::new("/etc"), None, Laden(exploit.clone(), io::sink())).expect("packed");
    exploit.assert_refused("copy out");

    let exploit = Exploit::new(&dir.path().join("elsewhere"));
    root.pack(Laden(exploit.clone(), io::sink())).expect("packed");
    exploit.assert_refused("commit");
}
