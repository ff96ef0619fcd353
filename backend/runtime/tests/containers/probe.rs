//! What this program does when it runs *inside* a container: tries things and says what came of it.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// Does what its second argument says: everything once, when there is none.
pub fn run() {
    match std::env::args().nth(2).as_deref() {
        Some("scan") => scan(),
        Some("ids") => println!("{} {}", nix::unistd::getuid(), nix::unistd::geteuid()),
        Some("steal") => steal(),
        Some("low") => low(),
        _ => attempts(),
    }
}

/// Looks at every process that shows up, for ever, and tells of one that is none of the container's own:
/// who enters a container has the host's program and memory until it executes another.
fn scan() {
    let own = |program: &Path| ["/bin/busybox", "/bin/probe"].iter().any(|own| program == Path::new(own));
    println!("scanning");
    loop {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = entry.path();
            match std::fs::read_link(process.join("exe")) {
                Ok(program) if !own(&program) => {
                    let writable = std::fs::OpenOptions::new().write(true).open(process.join("exe")).is_ok();
                    println!("saw {} in {}, writable: {writable}", program.display(), process.display());
                }
                _ => {}
            }
        }
    }
}

/// Binds a low port, and opens the socket of a ping that needs no raw one.
fn low() {
    let bound = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 80));
    println!("{}", bound.map_or_else(|error| error.to_string(), |_| "bound".into()));
    let ping = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp);
    println!("{}", ping.map_or_else(|errno| format!("{errno:?}"), |_| "pings".into()));
}

/// Reads from the memory of the container's first process by a system call, not by `/proc`.
fn steal() {
    let mut buffer = [0; 8];
    let remote = nix::sys::uio::RemoteIoVec { base: 0x40_0000, len: buffer.len() };
    let mut local = [std::io::IoSliceMut::new(&mut buffer)];
    let read = nix::sys::uio::process_vm_readv(nix::unistd::Pid::from_raw(1), &mut local, &[remote]);
    println!("{}", read.map_or_else(|errno| format!("{errno:?}"), |_| "ok".into()));
}

/// Prints one line for each attempt: name, and `ok` or the error's name.
fn attempts() {
    let say = |name: &str, result: Result<(), Errno>| {
        println!("{name} {}", result.map_or_else(|errno| format!("{errno:?}"), |()| "ok".into()));
    };
    let family = |family, kind| socket(family, kind, SockFlag::empty(), None).map(drop);
    say("inet", family(AddressFamily::Inet, SockType::Stream));
    say("alg", family(AddressFamily::Alg, SockType::SeqPacket));
    say("vsock", family(AddressFamily::Vsock, SockType::Stream));
    say("packet", family(AddressFamily::Packet, SockType::Raw));
    say("unshare-user", unshare(CloneFlags::CLONE_NEWUSER));
    say("unshare-mount", unshare(CloneFlags::CLONE_NEWNS));
    say("mount", mount(None::<&str>, "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>));
    say("keyring", wharf_sys::keyring::join_new_session().map_err(|error| error.errno));
    let args = wharf_sys::process::CloneArgs { namespaces: CloneFlags::empty(), cgroup: None };
    say("clone3", wharf_sys::process::clone3(args, || 0).map(drop).map_err(|error| error.errno));
    say("fork", wharf_sys::process::fork(|| 0).map(drop).map_err(|error| error.errno));
    say("bpf", wharf_sys::bpf::load_device_program(&[]).map(drop).map_err(|error| error.errno));
    let node = nix::sys::stat::SFlag::S_IFCHR;
    let mode = nix::sys::stat::Mode::S_IRWXU;
    say("mknod", nix::sys::stat::mknod(Path::new("/tmp/zero"), node, mode, nix::sys::stat::makedev(1, 5)));
}
