//! What a hostile image or container tries against the runtime itself (SECURITY A, B).

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};

use rustix::io::Errno;

use crate::bundle::{Bundle, ID, complaint, good, program};

#[test]
fn the_program_of_a_container_at_its_gate_cannot_be_written() {
    let mut bundle = Bundle::new("true");
    // A program of its own: as long as anybody runs it, it is busy for everybody.
    bundle.program = bundle.dir.path().join("runtime");
    fs::copy(program(), &bundle.program).expect("copy");
    bundle.create();
    let pid = bundle.state()["pid"].as_i64().expect("pid");
    // An attacker holds it and waits.
    let held = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::PATH.bits().cast_signed())
        .open(format!("/proc/{pid}/exe"))
        .expect("the runtime's program");
    good(bundle.command("delete").args(["--force", ID]).output().expect("delete"));
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    let error = OpenOptions::new().append(true).open(again).expect_err("it is ours");
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()), "{error}");
}

#[test]
fn an_exec_of_the_runtime_itself_gives_a_container_nothing_to_overwrite() {
    let before = fs::read(program()).expect("program");
    let bundle = Bundle::new(
        "echo ready; while :; do for e in /proc/[0-9]*/exe; do case $(readlink $e) in */busybox|'') ;; *) \
         if exec 4<$e; then sleep 0.02; printf x >>/proc/self/fd/4; fi;; esac; done; done 2>/dev/null",
    );
    let evil = bundle.root().join("evil");
    fs::write(&evil, "#!/proc/self/exe\n").expect("file");
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("mode");
    let mut child = bundle.spawn();
    for _round in 0..8 {
        bundle.exec(&["/evil"]);
    }
    bundle.act("kill", &["KILL"]);
    child.wait().expect("run");
    assert_eq!(fs::read(program()).expect("program"), before);
}

#[test]
fn links_of_the_image_lead_nowhere_outside() {
    let outside = tempfile::tempdir_in("/var/tmp").expect("directory");
    let mut bundle = Bundle::new("true");
    for (place, word) in [("proc", "/proc"), ("dev", "/dev"), ("sys", "/sys")] {
        let path = bundle.root().join(place);
        fs::remove_dir(&path).expect("remove");
        symlink(outside.path(), &path).expect("link");
        let output = bundle.run();
        assert_eq!(output.status.code(), Some(125));
        assert!(complaint(&output).contains(word), "{output:?}");
        fs::remove_file(&path).expect("remove");
        fs::create_dir(&path).expect("directory");
    }
    // A target behind a link is inside all the same.
    symlink("../../../..", bundle.root().join("up")).expect("link");
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    let target = format!("/up{}/made", outside.path().display());
    mounts.push(serde_json::json!({ "destination": target, "type": "tmpfs" }));
    bundle.say();
    assert_eq!(fs::read_dir(outside.path()).expect("outside").count(), 0);
}
