//! Hostile archives: each either stays inside its layer or is refused whole, and the canary outside lives.
//!
//! Needs root, as the product does: it makes device nodes, foreign owners and `trusted.*` attributes.
#![expect(clippy::tests_outside_test_module, reason = "an integration test")]
#![expect(clippy::expect_used, reason = "an integration test and its support")]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use support::{Host, Member, Tar, chain, gzip};
use wharf_image::{
    ArchiveError, ContentStore, Digest, ImageError, ImportOptions, Limits, StoreError, UnpackError,
};

/// Imports and expects a refusal whose text has `why`; nothing may be left behind.
async fn refused(name: &str, archive: Vec<u8>, why: &str) {
    refused_by(&Host::new(Limits::default()), name, archive, why).await;
}

async fn refused_by(host: &Host, name: &str, archive: Vec<u8>, why: &str) {
    let error = host.unpack(archive).await.expect_err(name);
    let text = chain(&error);
    assert!(text.contains(why), "{name}: {text}");
    host.assert_canary_lives();
    host.assert_empty();
}

/// Attacks: C1.
#[tokio::test]
async fn names_that_lead_upwards_are_refused() {
    for name in ["../canary", "a/../../canary", "..", "./../x", "a/b/../../../x", "/../../x", "a/.."] {
        refused(name, Tar::default().file(name, "evil").end(), "leads upwards").await;
        refused(name, Tar::default().directory(name).end(), "leads upwards").await;
        refused(name, Tar::default().symlink(name, "/").end(), "leads upwards").await;
    }
    let pax = Tar::default().pax(&[("path", b"../../canary")]).file("harmless", "evil").end();
    refused("pax path", pax, "leads upwards").await;
    let long = Tar::default()
        .add(&Member { name: "././@LongLink", kind: b'L', data: b"../../canary\0", ..Member::default() })
        .file("harmless", "evil");
    refused("gnu long name", long.end(), "leads upwards").await;
}

/// Attacks: C1.
#[tokio::test]
async fn absolute_names_stay_inside() {
    let host = Host::new(Limits::default());
    let target = host.outside().join("canary");
    let archive =
        Tar::default().pax(&[("path", target.to_str().expect("text").as_bytes())]).file("x", "evil").end();
    let diff = host.unpack(archive).await.expect("unpacks");
    host.assert_canary_lives();
    let inside = diff.join(target.strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read(inside).expect("is inside"), b"evil");
}

/// Attacks: C1.
#[tokio::test]
async fn nothing_is_written_through_symbolic_links() {
    let host = Host::new(Limits::default());
    let outside = host.outside();
    let outside = outside.to_str().expect("text");
    let up = "../../../../outside";
    for target in [outside, up, "/", ".", "..", "loop", "/proc/self/root", "/proc/self/cwd"] {
        let through = Tar::default().symlink("loop", target);
        for (what, archive) in [
            ("file", through.clone().file("loop/canary", "evil")),
            ("deep file", through.clone().file("loop/a/b/canary", "evil")),
            ("directory", through.clone().directory("loop/new/")),
            ("symlink", through.clone().symlink("loop/new", "x")),
            ("hard link", through.clone().file("f", "evil").hard_link("loop/new", "f")),
            ("fifo", through.clone().add(&Member { name: "loop/new", kind: b'6', ..Member::default() })),
            ("whiteout", through.clone().file("loop/.wh.canary", "")),
            ("opaque", through.clone().file("loop/.wh..wh..opq", "")),
        ] {
            refused_by(
                &host,
                &format!("{what} through {target}"),
                archive.end(),
                "a parent is a symbolic link",
            )
            .await;
        }
    }
}

/// Attacks: C1.
#[tokio::test]
async fn a_directory_swapped_for_a_symbolic_link_is_not_written_through() {
    let host = Host::new(Limits::default());
    let outside = host.outside();
    let outside = outside.to_str().expect("text");
    let swapped = Tar::default().directory("d/").file("d/first", "1").symlink("d", outside);
    // The parent `d` was used a moment ago and might be remembered.
    refused_by(&host, "swap", swapped.clone().file("d/canary", "evil").end(), "a symbolic link").await;
    let deep = Tar::default().file("a/b/c/f", "1").symlink("a/b", outside).file("a/b/c/canary", "evil");
    refused_by(&host, "deep swap", deep.end(), "a symbolic link").await;
    // `d/.` must not change the mode of what the link points to (CVE-2026-33056).
    let chmod = swapped.add(&Member { name: "d/.", kind: b'5', mode: 0o4777, ..Member::default() });
    let diff = host.unpack(chmod.end()).await.expect("a directory takes the link's place");
    assert!(fs::symlink_metadata(diff.join("d")).expect("stat").is_dir());
    host.assert_canary_lives();
}

/// Attacks: C1.
#[tokio::test]
async fn what_replaces_a_link_does_not_write_to_its_target() {
    let host = Host::new(Limits::default());
    let canary = host.outside().join("canary");
    let archive = Tar::default().symlink("f", canary.to_str().expect("text")).file("f", "mine").end();
    let diff = host.unpack(archive).await.expect("unpacks");
    assert_eq!(fs::read(diff.join("f")).expect("a file"), b"mine");
    host.assert_canary_lives();
}

/// Attacks: C1.
#[tokio::test]
async fn hard_links_reach_nothing_outside_the_layer() {
    let host = Host::new(Limits::default());
    let canary = host.outside().join("canary");
    let canary = canary.to_str().expect("text");
    for target in [canary, "../../../../outside/canary", "missing", "d/missing", "d", ".", "", "self"] {
        let archive = Tar::default().directory("d/").hard_link("self", target).end();
        refused_by(&host, target, archive, "refused hard link").await;
    }
    let outside = host.outside();
    let through =
        Tar::default().symlink("s", outside.to_str().expect("text")).hard_link("x", "s/canary").end();
    refused_by(&host, "through a symlink", through, "refused hard link").await;
    let whiteout = Tar::default().file(".wh.gone", "").hard_link("x", "gone").end();
    refused_by(&host, "to a whiteout", whiteout, "not in this layer").await;
    // A link to a symbolic link is a second name for the link, not for its target.
    let archive = Tar::default().symlink("s", canary).hard_link("t", "s").end();
    let diff = host.unpack(archive).await.expect("unpacks");
    assert_eq!(fs::read_link(diff.join("t")).expect("a link"), Path::new(canary));
    host.assert_canary_lives();
}

#[tokio::test]
async fn a_parent_that_is_a_file_is_refused() {
    refused("file as parent", Tar::default().file("f", "x").file("f/g", "y").end(), "not a directory").await;
    refused("root as file", Tar::default().file("./", "").symlink(".", "/etc").end(), "the root must be")
        .await;
}

/// Attacks: B9, C1, C11.
#[tokio::test]
async fn devices_are_made_but_never_one_that_overlay_takes_for_a_whiteout() {
    let zero = Member { name: "etc/passwd", kind: b'3', ..Member::default() };
    refused("0:0", Tar::default().add(&zero).end(), "act as a whiteout").await;
    let huge = Member { name: "dev/x", kind: b'4', device: (1 << 12, 0), ..Member::default() };
    refused("major", Tar::default().add(&huge).end(), "impossible device number").await;
    let host = Host::new(Limits::default());
    let null = Member { name: "dev/null", kind: b'3', device: (1, 3), mode: 0o666, ..Member::default() };
    let disk = Member {
        name: "dev/disk",
        kind: b'4',
        device: (254, 0),
        mode: 0o600,
        owner: (0, 6),
        ..Member::default()
    };
    let fifo = Member { name: "run/fifo", kind: b'6', mode: 0o622, ..Member::default() };
    let diff = host.unpack(Tar::default().add(&null).add(&disk).add(&fifo).end()).await.expect("unpacks");
    let stat = |name: &str| fs::symlink_metadata(diff.join(name)).expect("stat");
    assert!(stat("dev/null").file_type().is_char_device() && stat("dev/disk").file_type().is_block_device());
    assert_eq!((stat("dev/null").mode() & 0o7777, stat("dev/disk").gid()), (0o666, 6));
    assert_eq!((stat("run/fifo").file_type().is_fifo(), stat("run/fifo").mode() & 0o777), (true, 0o622));
    let layers = fs::metadata(host.store.layers_root()).expect("stat");
    assert_eq!((layers.mode() & 0o777, layers.uid()), (0o700, 0), "only root reaches them");
}

/// Attacks: B9.
#[tokio::test]
async fn attributes_that_act_on_overlay_are_refused() {
    for attribute in
        ["trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.x", "user.overlay.whiteout"]
    {
        let key = format!("SCHILY.xattr.{attribute}");
        refused(attribute, Tar::default().pax(&[(&key, b"/etc")]).directory("d/").end(), "refused attribute")
            .await;
        refused(attribute, Tar::default().pax(&[(&key, b"/etc")]).file("f", "").end(), "refused attribute")
            .await;
    }
}

#[tokio::test]
async fn owners_outside_the_containers_ids_are_refused() {
    for owner in [(65_536_u64, 0_u64), (0, 65_536), (u64::from(u32::MAX), 0), (1 << 32, 1 << 32)] {
        let uid = owner.0.to_string();
        let gid = owner.1.to_string();
        let archive =
            Tar::default().pax(&[("uid", uid.as_bytes()), ("gid", gid.as_bytes())]).file("f", "x").end();
        refused(&format!("{owner:?}"), archive, "outside 0-65535").await;
    }
}

#[tokio::test]
async fn whiteouts_become_what_overlay_reads() {
    let host = Host::new(Limits::default());
    let archive = Tar::default()
        .directory("d/")
        .file("d/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/kept", "x")
        // What the layer has itself is not touched by its own whiteouts, in whatever order they come.
        .file("both", "x")
        .file(".wh.both", "")
        .file(".wh.later", "")
        .file("later", "y")
        .directory("dir/")
        .file("dir/f", "x")
        .file(".wh.dir", "")
        .file(".wh.implied", "")
        .file("implied/f", "x")
        .file(".wh..wh.plnk/1.2", "")
        .end();
    let diff = host.unpack(archive).await.expect("unpacks");
    let gone = fs::symlink_metadata(diff.join("d/gone")).expect("stat");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::getxattr(diff.join(name), "trusted.overlay.opaque", &mut value)
            .map(|length| (length, value[0]))
    };
    for name in ["opaque", "dir", "implied"] {
        assert_eq!(opaque(name), Ok((1, b'y')), "{name}");
    }
    assert_eq!(opaque("d"), Err(rustix::io::Errno::NODATA));
    assert_eq!(
        (fs::read(diff.join("both")).expect("file"), fs::read(diff.join("later")).expect("file")),
        (b"x".into(), b"y".into())
    );
    let mut names: Vec<_> =
        fs::read_dir(&diff).expect("lists").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["both", "d", "dir", "implied", "later", "opaque"]);
    for wrong in [".wh.", ".wh..", "a/.wh...", ".wh.x/y"] {
        refused(wrong, Tar::default().file(wrong, "").end(), "refused name").await;
    }
}

/// Attacks: C3.
#[tokio::test]
async fn bombs_stop_at_their_limits() {
    let limits = Limits { entries: 100, unpacked_bytes: 1 << 20, ..Limits::default() };
    let host = Host::new(limits);
    let many = (0..101).fold(Tar::default(), |tar, i| tar.directory(&format!("d{i}/")));
    refused_by(&host, "entries", many.end(), "limit of 100 entries").await;
    let implied = (0..40).fold(Tar::default(), |tar, i| tar.file(&format!("{i}/a/b/c"), ""));
    refused_by(&host, "implied", implied.end(), "limit of 100 entries").await;
    let zeros = vec![0; 4 << 20];
    let large = Tar::default().add(&Member { name: "zeros", data: &zeros, ..Member::default() }).end();
    refused_by(&host, "gzip bomb", gzip(&large), "larger than 1048576 bytes").await;
    refused_by(&host, "spooled", large.clone(), "larger than 1048576 bytes").await;
    let file = tempfile::NamedTempFile::new().expect("temp file");
    fs::write(file.path(), large).expect("writes");
    let options =
        ImportOptions { reference: Some("bomb:1".parse().expect("a name")), ..ImportOptions::default() };
    let error =
        host.store.import_file(&host.store.lease(), file.path(), options).await.expect_err("too large");
    assert!(chain(&error).contains("limit of 1048576 unpacked bytes"), "{}", chain(&error));
    host.assert_empty();
    let hole = Tar::default()
        .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1099511627776")])
        .file("hole", "x");
    refused_by(&host, "sparse bomb", hole.end(), "limit of 1048576 unpacked bytes").await;
    let deep = "d/".repeat(300);
    refused("depth", Tar::default().pax(&[("path", deep.as_bytes())]).file("x", "").end(), "limit of 256")
        .await;
    let long = "n/".repeat(3000);
    refused("length", Tar::default().pax(&[("path", long.as_bytes())]).file("x", "").end(), "limit of 4095")
        .await;
    let component = "n".repeat(256);
    refused(
        "component",
        Tar::default().pax(&[("path", component.as_bytes())]).file("x", "").end(),
        "255 bytes",
    )
    .await;
}

/// Attacks: C3.
#[tokio::test]
async fn an_extended_header_is_not_read_into_memory_without_bound() {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().linkflag = *b"L";
    header.set_size(1 << 40);
    header.set_cksum();
    refused("long name", Tar::default().raw(header.as_bytes()).end(), "bytes in an extended header").await;
    header.as_old_mut().linkflag = *b"x";
    header.set_cksum();
    refused("pax", Tar::default().raw(header.as_bytes()).end(), "bytes in an extended header").await;
}

/// Attacks: C2.
#[tokio::test]
async fn what_readers_disagree_about_is_refused() {
    let valid = Tar::default().file("f", "x");
    let global = Member { name: "g", kind: b'g', data: b"16 path=../evil\n", ..Member::default() };
    refused("global path", Tar::default().add(&global).file("f", "x").end(), "global pax header").await;
    let twice = Tar::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", "x").end();
    refused("two pax headers", twice, "two pax headers").await;
    let long = Member { name: "L", kind: b'L', data: b"a\0", ..Member::default() };
    let both = Tar::default().pax(&[("path", b"b")]).add(&long).file("f", "x").end();
    refused("two kinds of long name", both, "both a pax name and a GNU long name").await;
    let sized = Member { name: "d/", kind: b'5', data: b"hidden", ..Member::default() };
    refused("directory with data", Tar::default().add(&sized).end(), "data of a member that has none").await;
    let unknown = Member { name: "f", kind: b'M', ..Member::default() };
    refused("continued", Tar::default().add(&unknown).end(), "unknown kind").await;
    let mut checksum = valid.clone().end();
    checksum[0] = b'g';
    refused("checksum", checksum, "bad header checksum").await;
    let nul = Tar::default().pax(&[("path", b"a\0../../b")]).file("f", "x").end();
    refused("zero byte", nul, "zero byte").await;
    refused("dangling pax", Tar::default().pax(&[("path", b"a")]).end(), "followed by nothing").await;
}

#[tokio::test]
async fn broken_streams_are_refused_and_leave_nothing() {
    let archive = Tar::default().file("f", &"x".repeat(100_000)).end();
    refused("truncated", archive.get(..50_000).expect("long").to_vec(), "cannot read").await;
    refused("half a header", archive.get(..300).expect("long").to_vec(), "ends inside a header").await;
    let packed = gzip(&archive);
    refused("truncated gzip", packed.get(..packed.len() / 2).expect("long").to_vec(), "cannot read").await;
    refused("noise", vec![0xa5; 5000], "bad header checksum").await;
    let host = Host::new(Limits::default());
    let lease = host.store.lease();
    let unnamed = host.store.import(&lease, std::io::Cursor::new(archive), ImportOptions::default()).await;
    assert!(matches!(unnamed, Err(ImageError::Archive(ArchiveError::Unnamed))));
    host.assert_empty();
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    // A tmpfs of 256 KiB in a mount namespace that only this thread and those it starts are in.
    let checked = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private");
        let state = tempfile::tempdir().expect("temp dir");
        mount(Some("none"), state.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).expect("mount");
        let archive = Tar::default().file("small", "x").file("large", &"x".repeat(400 << 10)).end();
        let file = tempfile::NamedTempFile::new().expect("temp file");
        fs::write(file.path(), &archive).expect("writes");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let store = ContentStore::open(state.path(), Limits::default()).expect("opens");
            let lease = store.lease();
            let options = ImportOptions {
                reference: Some("full:1".parse().expect("a name")),
                ..ImportOptions::default()
            };
            // From a file it is unpacked at once, a stream is spooled first.
            let unpacked = store.import_file(&lease, file.path(), options.clone()).await;
            assert!(
                matches!(unpacked, Err(ImageError::Rootfs { source: UnpackError::DiskFull { .. } })),
                "{unpacked:?}"
            );
            let spooled = store.import(&lease, std::io::Cursor::new(archive), options).await;
            assert!(matches!(spooled, Err(ImageError::Store(StoreError::DiskFull { .. }))), "{spooled:?}");
        });
        for directory in ["layers", "images/ingest", "images/blobs/sha256"] {
            assert_eq!(fs::read_dir(state.path().join(directory)).expect("lists").count(), 0, "{directory}");
        }
        nix::mount::umount(state.path()).expect("unmount");
    });
    checked.join().expect("the checks hold");
}

/// The kernel's overlay is the judge of what whiteouts and opaque directories mean.
#[test]
fn an_overlay_mount_shows_what_the_layers_mean() {
    let checked = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let base = Tar::default()
            .file("etc/passwd", "0")
            .file("etc/group", "0")
            .file("d/a", "0")
            .file("x/y", "0")
            .end();
        let middle = Tar::default()
            .file("etc/.wh.passwd", "")
            .file("d/.wh..wh..opq", "")
            .file("d/b", "1")
            .file("x", "1")
            .end();
        let fresh = Tar::default().file(".wh..wh..opq", "").file("only", "2").end();
        for (layers, expected) in [
            (vec![base.clone(), middle.clone()], vec!["d", "d/b", "etc", "etc/group", "x"]),
            // Overlay ignores an opaque root, so the list of layers ends there.
            (vec![base, middle, fresh.clone()], vec!["only"]),
            (vec![fresh, Tar::default().file("more", "3").end()], vec!["more", "only"]),
        ] {
            let host = Host::new(Limits::default());
            let image = runtime.block_on(host.import(docker_archive(&layers))).expect("imports");
            let paths = runtime.block_on(host.store.layer_paths(&image)).expect("layers");
            let mut lower: Vec<String> =
                paths.iter().map(|path| host.store.layers_root().join(path).display().to_string()).collect();
            // A read-only overlay wants two.
            let empty = tempfile::tempdir().expect("temp dir");
            lower.push(empty.path().display().to_string());
            let merged = tempfile::tempdir().expect("temp dir");
            let data = format!("lowerdir={}", lower.join(":"));
            mount(Some("overlay"), merged.path(), Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str()))
                .expect("overlay");
            let shown = support::layout::names(merged.path());
            nix::mount::umount(merged.path()).expect("unmount");
            assert_eq!(shown, expected.iter().map(std::path::PathBuf::from).collect::<Vec<_>>());
        }
    });
    checked.join().expect("the checks hold");
}

/// A Docker archive of these layers.
fn docker_archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|i| format!("{i}.tar")).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config =
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": null, "Layers": names}]).to_string();
    let tar = Tar::default().file("manifest.json", &manifest).file("c.json", &config);
    let members = names.iter().zip(layers);
    members.fold(tar, |tar, (name, data)| tar.add(&Member { name, data, ..Member::default() })).end()
}

#[tokio::test]
async fn metadata_is_kept() {
    let host = Host::new(Limits::default());
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Tar::default()
        .add(&Member { name: "./", kind: b'5', mode: 0o711, owner: (7, 8), ..Member::default() })
        .add(&Member { name: "d", kind: b'5', mode: 0o1777, owner: (33, 33), mtime: 5, ..Member::default() })
        .add(&Member { name: "d/suid", mode: 0o4755, owner: (0, 42), data: b"x", ..Member::default() })
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"line\nline"),
            ("SCHILY.xattr.security.selinux", b"dropped"),
            ("mtime", b"1500000000.25"),
        ])
        .add(&Member {
            name: "d/caps",
            mode: 0o755,
            owner: (65_535, 65_535),
            data: b"x",
            ..Member::default()
        })
        .add(&Member {
            name: "link",
            kind: b'2',
            link: "d/caps",
            owner: (5, 6),
            mtime: 77,
            ..Member::default()
        })
        .hard_link("hard", "d/caps")
        .end();
    let diff = host.unpack(gzip(&archive)).await.expect("unpacks");
    let stat = |name: &str| fs::symlink_metadata(diff.join(name)).expect("stat");
    let owner = |name: &str| (stat(name).uid(), stat(name).gid());
    assert_eq!((stat(".").mode() & 0o7777, owner(".")), (0o711, (7, 8)));
    assert_eq!((stat("d").mode() & 0o7777, owner("d"), stat("d").mtime()), (0o1777, (33, 33), 5));
    assert_eq!((stat("d/suid").mode() & 0o7777, owner("d/suid")), (0o4755, (0, 42)));
    assert_eq!((stat("d/caps").mtime(), stat("d/caps").mtime_nsec()), (1_500_000_000, 250_000_000));
    assert_eq!((owner("link"), stat("link").mtime()), ((5, 6), 77));
    assert_eq!(stat("hard").ino(), stat("d/caps").ino());
    let attribute = |name: &str| {
        let mut value = vec![0; 64];
        rustix::fs::getxattr(diff.join("d/caps"), name, value.as_mut_slice())
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(attribute("security.capability").expect("kept"), capability);
    assert_eq!(attribute("user.note").expect("kept"), b"line\nline");
    assert!(attribute("security.selinux").is_err());
}

/// Archives of random members with hostile names and links, in any order.
#[test]
fn no_sequence_of_members_reaches_outside() {
    use proptest::prelude::*;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let host = Host::new(Limits::default());
    let outside = host.outside().display().to_string();
    let up = "../../../../outside".to_owned();
    let names = [
        "a",
        "a/b",
        "a/b/c",
        "a/.",
        "./a/..",
        ".wh.a",
        "a/.wh.b",
        "a/.wh..wh..opq",
        "/a",
        "b",
        "b/canary",
        "canary",
    ];
    let links = [
        outside.clone(),
        format!("{outside}/canary"),
        up,
        "a".to_owned(),
        "b".to_owned(),
        ".".to_owned(),
        "a/b".to_owned(),
    ];
    let member = (
        prop::sample::select(names.to_vec()),
        prop::sample::select(b"01256".to_vec()),
        prop::sample::select(links.to_vec()),
    );
    let archives = prop::collection::vec(member, 1..9);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let unpacked = std::cell::Cell::new(0);
    let checked = runner.run(&archives, |members| {
        let tar = members.iter().fold(Tar::default(), |tar, (name, kind, link)| {
            let data: &[u8] = if *kind == b'0' { b"evil" } else { b"" };
            tar.add(&Member {
                name,
                kind: *kind,
                link,
                data,
                mode: 0o4777,
                owner: (7, 7),
                ..Member::default()
            })
        });
        unpacked.set(unpacked.get() + u32::from(runtime.block_on(host.unpack(tar.end())).is_ok()));
        host.assert_canary_lives();
        Ok(())
    });
    checked.expect("the canary lives");
    assert!(unpacked.get() > 20, "only {unpacked:?} archives got far enough to be a test");
}

/// Whatever GNU tar writes, in each of its formats, comes out as GNU tar itself extracts it.
/// Attacks: C2.
#[tokio::test]
async fn agrees_with_gnu_tar() {
    let tree = tempfile::tempdir().expect("temp dir");
    let long = format!("{}/{}", "directory-with-a-long-name".repeat(5), "file-with-a-long-name".repeat(8));
    fs::create_dir_all(tree.path().join(&long).parent().expect("parent")).expect("makes");
    fs::write(tree.path().join(&long), "long").expect("writes");
    std::os::unix::fs::symlink("target-with-a-long-name/".repeat(9), tree.path().join("symlink"))
        .expect("links");
    fs::hard_link(tree.path().join(&long), tree.path().join("hard")).expect("links");
    let sparse = fs::File::create(tree.path().join("sparse")).expect("makes");
    for piece in 0..60_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, format!("piece {piece}").as_bytes(), piece << 17)
            .expect("writes");
    }
    sparse.set_len(9 << 20).expect("grows");
    fs::write(tree.path().join("data"), vec![7; 70_001]).expect("writes");
    for format in ["gnu", "posix", "ustar", "v7", "oldgnu"] {
        for sparse in ["", "--sparse", "--sparse-version=0.0", "--sparse-version=0.1"] {
            // The older formats have no room for such names.
            let short = matches!(format, "ustar" | "v7");
            let mut command = Command::new("tar");
            command.args(["--format", format, "--sort=name", "--numeric-owner"]);
            if !sparse.is_empty() {
                command.args(["--sparse", sparse]);
            }
            if short {
                command.args(["--exclude=directory*", "--exclude=symlink", "--exclude=hard"]);
            }
            let made = command.arg("-C").arg(tree.path()).args(["-c", "."]).output().expect("tar runs");
            if !made.status.success() {
                assert!(
                    short || format == "oldgnu",
                    "{format} {sparse}: {}",
                    String::from_utf8_lossy(&made.stderr)
                );
                continue;
            }
            let host = Host::new(Limits::default());
            let ours = host
                .unpack(made.stdout.clone())
                .await
                .unwrap_or_else(|error| panic!("{format} {sparse}: {}", chain(&error)));
            let theirs = tempfile::tempdir().expect("temp dir");
            let file = theirs.path().join("archive");
            fs::write(&file, &made.stdout).expect("writes");
            let extracted = theirs.path().join("x");
            fs::create_dir(&extracted).expect("makes");
            let tar = Command::new("tar")
                .arg("-xpf")
                .arg(&file)
                .arg("-C")
                .arg(&extracted)
                .status()
                .expect("tar runs");
            assert!(tar.success());
            assert_eq!(listing(&ours), listing(&extracted), "{format} {sparse}");
            let sparse_file = fs::metadata(ours.join("sparse")).expect("stat");
            assert!(
                sparse.is_empty() || format == "v7" || sparse_file.blocks() * 512 < 2 << 20,
                "{format} {sparse} has no holes"
            );
        }
    }
}

type Line = (String, u32, u32, u32, i64, i64, u64, Vec<u8>);

/// Everything about a tree that should be equal.
fn listing(root: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).expect("stat");
        let content = if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).expect("lists").map(|entry| entry.expect("entry").path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).expect("reads").into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).expect("reads")
        };
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let name = path.strip_prefix(root).expect("below").display().to_string();
        lines.push((
            name,
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            links,
            content,
        ));
    }
    lines.sort();
    lines
}

/// An archive without end: one file of zeros.
struct Endless {
    head: std::io::Cursor<Vec<u8>>,
    reads: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match self.head.read(buffer)? {
            0 => {
                std::thread::yield_now();
                let few = buffer.len().min(512);
                buffer.get_mut(..few).expect("in range").fill(0);
                Ok(few)
            }
            read => Ok(read),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_nobody_waits_for_ends_and_leaves_nothing() {
    let host = Host::new(Limits::default());
    let reads = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let head = std::io::Cursor::new(Tar::default().file("a", "a").unended());
    let lease = host.store.lease();
    let source = Endless { head, reads: std::sync::Arc::clone(&reads) };
    let import = host.store.import(&lease, source, ImportOptions::default());
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(100), import).await;
    assert!(given_up.is_err(), "it has no end");
    let count = || reads.load(std::sync::atomic::Ordering::Relaxed);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let before = count();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if count() == before {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it is still read");
    }
    assert!(count() > 0, "it had begun");
    drop(lease);
    host.assert_empty();
}
