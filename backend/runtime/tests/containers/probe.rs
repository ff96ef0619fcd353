//! What this program does when it runs *inside* a container: tries things and says what came of it.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Prints one line for each attempt: name, and `ok` or the error's name.
pub fn run() {
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
