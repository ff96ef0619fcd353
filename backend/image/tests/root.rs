//! A container's files without a mount: what differs, the whole as an archive, and a new image of it.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, XattrFlags};
use support::Host;
use wharf_image::{ChangeKind, CommitOptions, FileKind, Limits, Mount, Mounted, Placed, Root, RootError};

/// First id of the tenant.
const BASE: u32 = 1_000_000_000;

/// A writable layer above an image of two layers.
struct Container {
    dir: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        let container = Self { dir: tempfile::tempdir().expect("directory") };
        for (layer, files) in [
            ("low", &["etc/passwd", "etc/old", "bin/tool", "var/lib/a", "var/lib/b", "gone/x"][..]),
            ("high", &["etc/passwd", "usr/new"]),
        ] {
            for file in files {
                container.write(layer, file, &format!("{layer} {file}\n"), 0);
            }
        }
        container
    }

    fn path(&self, layer: &str, name: &str) -> PathBuf {
        self.dir.path().join(layer).join(name)
    }

    fn write(&self, layer: &str, name: &str, text: &str, id: u32) {
        let path = self.path(layer, name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(&path, text).expect("file");
        chown(&path, Some(id), Some(id)).expect("owner");
    }

    fn whiteout(&self, layer: &str, name: &str) {
        let path = self.path(layer, name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
            .expect("node");
    }

    fn opaque(&self, layer: &str, name: &str) {
        let path = self.path(layer, name);
        fs::create_dir_all(&path).expect("directory");
        rustix::fs::setxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("attribute");
    }

    /// As the container's root left it: of everything something.
    fn used(self) -> Self {
        self.write("upper", "etc/passwd", "mine\n", BASE);
        self.write("upper", "new/deep/file", "hello\n", BASE + 33);
        self.whiteout("upper", "etc/old");
        self.whiteout("upper", "gone");
        self.opaque("upper", "var/lib");
        self.write("upper", "var/lib/c", "c\n", BASE);
        let tool = self.path("upper", "bin/tool");
        self.write("upper", "bin/tool", "tool\n", BASE);
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).expect("mode");
        rustix::fs::setxattr(&tool, "user.note", b"kept", XattrFlags::empty()).expect("attribute");
        fs::hard_link(&tool, self.path("upper", "bin/second")).expect("link");
        symlink("/proc/1/root/etc/shadow", self.path("upper", "link")).expect("link");
        symlink("..", self.path("upper", "new/up")).expect("link");
        let pipe = self.path("upper", "pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("pipe");
        self
    }

    fn root(&self) -> Root {
        let image = ["high", "low"].map(|layer| self.dir.path().join(layer));
        Root::open(&self.dir.path().join("upper"), &image, BASE).expect("layers")
    }
}

/// Every member: kind, owner, mode, link or data.
fn members(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(archive);
    let mut all = BTreeMap::new();
    for entry in archive.entries().expect("archive") {
        let mut entry = entry.expect("member");
        let path = entry.path().expect("name").to_string_lossy().into_owned();
        let link = entry.link_name().expect("link").map(|link| link.to_string_lossy().into_owned());
        let mut data = String::new();
        entry.read_to_string(&mut data).expect("data");
        let header = entry.header();
        let text = format!(
            "{:?} {}:{} {:o} {}{}",
            header.entry_type(),
            header.uid().expect("owner"),
            header.gid().expect("group"),
            header.mode().expect("mode"),
            link.unwrap_or_default(),
            data.trim_end()
        );
        assert!(all.insert(path.clone(), text).is_none(), "{path} is there twice");
    }
    all
}

fn exported(root: &Root) -> BTreeMap<String, String> {
    let mut archive = Vec::new();
    root.export(&mut archive).expect("export");
    members(&archive)
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    let container = Container::new().used();
    let (changes, more) = container.root().changes(1000).expect("changes");
    assert!(!more);
    let told: Vec<String> = changes
        .iter()
        .map(|change| {
            let letter = match change.kind {
                ChangeKind::Changed => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", change.path.display())
        })
        .collect();
    let wanted = [
        "C /bin",
        "A /bin/second",
        "C /bin/tool",
        "C /etc",
        "D /etc/old",
        "C /etc/passwd",
        "D /gone",
        "A /link",
        "A /new",
        "A /new/deep",
        "A /new/deep/file",
        "A /new/up",
        "A /pipe",
        "C /var",
        "C /var/lib",
        "D /var/lib/a",
        "D /var/lib/b",
        "A /var/lib/c",
    ];
    assert_eq!(told, wanted);
    let (some, more) = container.root().changes(3).expect("changes");
    assert!(some.len() == 3 && more);
    assert_eq!(Container::new().root().changes(10).expect("changes"), (Vec::new(), false), "it never ran");
}

#[test]
fn an_export_is_what_the_container_sees_with_its_own_ids() {
    let all = exported(&Container::new().used().root());
    let wanted = [
        ("bin/", "Directory 0:0 755 "),
        ("bin/second", "Regular 0:0 4755 tool"),
        ("bin/tool", "Link 0:0 4755 bin/second"),
        ("etc/passwd", "Regular 0:0 644 mine"),
        ("link", "Symlink 0:0 777 /proc/1/root/etc/shadow"),
        ("new/deep/file", "Regular 33:33 644 hello"),
        ("pipe", "Fifo 0:0 400 "),
        ("usr/new", "Regular 0:0 644 high usr/new"),
        ("var/lib/c", "Regular 0:0 644 c"),
    ];
    for (name, member) in wanted {
        assert_eq!(all.get(name).map(String::as_str), Some(member), "{name}");
    }
    for hidden in ["etc/old", "gone/", "gone/x", "var/lib/a", "var/lib/b"] {
        assert!(!all.contains_key(hidden), "{hidden} is hidden");
    }
}

async fn layers_of(host: &Host, image: &wharf_image::Image) -> Vec<PathBuf> {
    let paths = host.store.layer_paths(image).await.expect("layers");
    paths.into_iter().map(|path| host.store.layers_root().join(path)).collect()
}

#[tokio::test]
async fn a_committed_image_shows_what_the_container_saw() {
    let host = Host::new(Limits::default());
    let container = Container::new().used();
    let archive = {
        let mut archive = Vec::new();
        let image = ["high", "low"].map(|layer| container.dir.path().join(layer));
        Root::open(Path::new("/nonexistent"), &image, BASE)
            .expect("image")
            .export(&mut archive)
            .expect("base");
        archive
    };
    let base = host.import(archive).await.expect("base image");
    let lower = layers_of(&host, &base).await;
    let root = Root::open(&container.dir.path().join("upper"), &lower, BASE).expect("layers");
    let before = exported(&root);
    let lease = host.store.lease();
    let options = CommitOptions {
        reference: "new:2".parse().expect("reference"),
        created: "2026-01-02T03:04:05Z".to_owned(),
        author: Some("somebody".to_owned()),
        message: Some("a remark".to_owned()),
        run: base.config.config.clone(),
    };
    let image = host.store.commit(&lease, base.clone(), root, options).await.expect("commit");
    assert_eq!(image.layers.len(), base.layers.len() + 1);
    let last = image.config.history.last().expect("history");
    assert_eq!(last.comment.as_deref(), Some("a remark"));
    let layers = layers_of(&host, &image).await;
    let after = exported(&Root::open(Path::new("/nonexistent"), &layers, BASE).expect("layers"));
    assert_eq!(after, before);
    let tool = layers[0].join("bin/tool");
    let mut note = [0; 8];
    assert_eq!(rustix::fs::getxattr(&tool, "user.note", &mut note), Ok(4));
}

/// Attacks: C1, C5.
#[test]
fn what_a_container_s_root_plants_leads_neither_out_nor_to_a_standstill() {
    let container = Container::new();
    // A name that would hide another once it is a layer.
    container.write("upper", "etc/.wh.passwd", "", BASE);
    let mut archive = Vec::new();
    assert!(matches!(container.root().pack(&mut archive), Err(RootError::Whiteout { .. })));
    // Too deep to be followed with a descriptor for each.
    let container = Container::new();
    let mut deep = container.path("upper", "d");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).expect("directories");
    assert!(matches!(container.root().export(std::io::sink()), Err(RootError::Limit { .. })));
    assert!(matches!(container.root().changes(10_000), Err(RootError::Limit { .. })));
    // Names that change what they are while they are read.
    let container = Container::new();
    let secret = container.dir.path().join("secret");
    fs::write(&secret, "secret of the host\n").expect("file");
    container.write("upper", "race", "harmless\n", BASE);
    let rounds = if std::env::var_os("WHARF_SOAK").is_some() { 200_000 } else { 2_000 };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = container.path("upper", "race");
            let aside = container.dir.path().join("aside");
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                drop(fs::remove_file(&aside));
                symlink(&secret, &aside).expect("link");
                fs::rename(&aside, &path).expect("rename");
                rustix::fs::mknodat(rustix::fs::CWD, &aside, FileType::Fifo, Mode::RUSR, 0).expect("pipe");
                fs::rename(&aside, &path).expect("rename");
                fs::write(&aside, "harmless\n").expect("file");
                fs::rename(&aside, &path).expect("rename");
            }
        });
        let root = container.root();
        for _ in 0..rounds {
            let mut archive = Vec::new();
            root.pack(&mut archive).expect("pack");
            assert!(!String::from_utf8_lossy(&archive).contains("secret of the host"));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// An archive of these members: kind, name, link or data.
fn archive(members: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(33);
        header.set_gid(44);
        header.set_mtime(1_000);
        header.set_size(0);
        // Written as it is: the crate would refuse some of these.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == tar::EntryType::Regular {
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).expect("member");
        } else {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            header.set_cksum();
            builder.append(&header, std::io::empty()).expect("member");
        }
    }
    builder.into_inner().expect("archive")
}

fn place(
    root: &Root,
    directory: &str,
    members: &[(tar::EntryType, &str, &str)],
) -> Result<Placed, RootError> {
    root.place(Path::new(directory), &archive(members)[..], &Limits::default(), true)
}

fn packed(root: &Root, path: &str) -> BTreeMap<String, String> {
    let mut archive = Vec::new();
    root.pack_path(Path::new(path), None, &mut archive).expect("packed");
    members(&archive)
}

#[test]
fn a_path_is_packed_under_its_last_name_and_links_stay_inside() {
    let container = Container::new().used();
    symlink("/new", container.path("upper", "short")).expect("link");
    symlink("../../../../../../../new", container.path("upper", "up")).expect("link");
    symlink("loop", container.path("upper", "loop")).expect("link");
    let root = container.root();
    let deep = "Regular 33:33 644 hello";
    for path in ["/new/deep", "new/deep/", "/short/deep", "/up/deep/.", "/new/deep/../deep"] {
        assert_eq!(packed(&root, path)["deep/file"], deep, "{path}");
    }
    assert_eq!(packed(&root, "/short").keys().collect::<Vec<_>>(), ["short"], "a link is packed as a link");
    assert!(packed(&root, "/short/.").contains_key("new/deep/file"), "unless it is gone through");
    assert!(packed(&root, "/")["etc/passwd"].ends_with("mine"));
    assert!(packed(&root, "/var").contains_key("var/lib/c"));
    let mut contents = Vec::new();
    root.pack_path(Path::new("/new"), Some(std::ffi::OsStr::new("")), &mut contents).expect("packed");
    assert!(members(&contents).contains_key("deep/file"));

    let stat = root.stat(Path::new("/short"), false).expect("there");
    assert_eq!((stat.kind, stat.target.as_deref()), (FileKind::Link, Some("/new".as_ref())));
    assert_eq!(root.stat(Path::new("/short"), true).expect("there").kind, FileKind::Directory);
    assert_eq!(root.stat(Path::new("/"), false).expect("there").kind, FileKind::Directory);
    let absent = |path: &str| matches!(root.stat(Path::new(path), true), Err(RootError::Absent { .. }));
    // Not there, hidden by a whiteout, behind an opaque directory, a link to the host's own.
    for path in ["/none", "/none/x", "/gone/x", "/etc/old", "/var/lib/a", "/link"] {
        assert!(absent(path), "{path}");
    }
    for path in ["/loop", "/etc/passwd/x", "/etc/passwd/"] {
        assert!(matches!(root.stat(Path::new(path), true), Err(RootError::Unfit { .. })), "{path}");
    }
}

/// Attacks: C1.
#[test]
fn capabilities_of_a_file_that_is_unpacked_hold_for_the_container_s_root_only() {
    const ATTRIBUTE: &str = "security.capability";
    const KEY: &str = "SCHILY.xattr.security.capability";
    let container = Container::new().used();
    let plain = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    // As the host's root, says the archive.
    let host = [b"\x01\0\0\x03", &plain[4..], &[0; 4]].concat();
    let packed = |value: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([(KEY, value)]).expect("attribute");
        let mut header = tar::Header::new_ustar();
        header.set_size(4);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "tool", &b"tool"[..]).expect("member");
        builder.into_inner().expect("archive")
    };
    let root = container.root();
    for value in [plain, &host] {
        let archive = packed(value);
        root.place(Path::new("/usr"), &archive[..], &Limits::default(), false).expect("placed");
        let mut found = [0; 32];
        let length = rustix::fs::getxattr(container.path("upper", "usr/tool"), ATTRIBUTE, &mut found);
        let wanted = [b"\x01\0\0\x03", &plain[4..], &BASE.to_le_bytes()].concat();
        assert_eq!(&found[..length.expect("kept")], wanted);
        let mut archive = Vec::new();
        root.pack_path(Path::new("/usr/tool"), None, &mut archive).expect("packed");
        let mut archive = tar::Archive::new(&archive[..]);
        let mut entry = archive.entries().expect("archive").next().expect("a member").expect("whole");
        let records = entry.pax_extensions().expect("records").expect("some");
        let values: Vec<_> =
            records.filter_map(Result::ok).filter(|record| record.key() == Ok(KEY)).collect();
        assert_eq!(values.iter().map(tar::PaxExtension::value_bytes).collect::<Vec<_>>(), [plain]);
    }
    let strange = packed(b"\x01\0\0\x01\0\x20\0\0\0\0\0\0");
    let refused = root.place(Path::new("/usr"), &strange[..], &Limits::default(), false);
    assert!(refused.is_err_and(|error| format!("{error:?}").contains("capabilities")));
}

#[test]
fn an_archive_is_unpacked_as_overlayfs_would_have_it() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    let container = Container::new().used();
    let root = container.root();
    let members = [
        (Regular, "./file", "data"),
        (Directory, "lib/", ""),
        (Regular, "lib/a", "new a"),
        (Symlink, "lib/away", "/proc/1/root"),
        (Link, "lib/again", "lib/a"),
    ];
    let placed = place(&root, "/usr", &members).expect("placed");
    assert_eq!((placed.entries, placed.bytes), (5, 9));
    let all = exported(&root);
    assert_eq!(all["usr/file"], "Regular 33:44 640 data");
    assert_eq!(all["usr/lib/a"], "Regular 33:44 640 new a");
    assert_eq!(all["usr/lib/again"], "Link 33:44 640 usr/lib/a");
    assert!(all["usr/new"].ends_with("high usr/new"), "the image's are still there");
    assert!(all["usr/lib/away"].contains("/proc/1/root"));
    let owner = fs::metadata(container.path("upper", "usr/file")).expect("made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), BASE + 33);

    // Over what is hidden, over a file, and again.
    place(&root, "/", &[(Regular, "gone/y", "y"), (Regular, "etc/old", "o"), (Regular, "etc/passwd", "p")])
        .expect("placed");
    let all = exported(&root);
    assert!(!all.contains_key("gone/x"), "what was removed does not come back");
    assert_eq!(
        (all["gone/y"].as_str(), all["etc/old"].as_str()),
        ("Regular 33:44 640 y", "Regular 33:44 640 o")
    );
    assert_eq!(all["etc/passwd"], "Regular 33:44 640 p");
    place(&root, "/etc", &[(Regular, "passwd", "q")]).expect("placed again");
    assert!(exported(&root)["etc/passwd"].ends_with(" q"));
    assert_eq!(
        fs::read_to_string(container.path("low", "etc/passwd")).expect("the image"),
        "low etc/passwd\n"
    );

    // A name like those of our own files on their way is the container's own.
    container.write("upper", "usr/.wharf-part", "mine", BASE);
    place(&root, "/usr", &[(Regular, "file", "again")]).expect("placed over it");
    assert_eq!(exported(&root)["usr/.wharf-part"], "Regular 0:0 644 mine");
    let parts = exported(&root).into_keys().filter(|name| name.contains(".wharf-part-")).count();
    assert_eq!(parts, 0, "nothing of ours is left");

    // Without owners all is the root's; a container that never ran has its image's directories.
    let fresh = Container::new();
    fs::create_dir(fresh.path("upper", "")).expect("writable");
    let root = fresh.root();
    root.place(Path::new("/var/lib"), &archive(&[(Regular, "z", "z")])[..], &Limits::default(), false)
        .expect("placed");
    assert_eq!(exported(&root)["var/lib/z"], "Regular 0:0 640 z");
    assert!(exported(&root).contains_key("var/lib/a"));
}

/// Attacks: C5.
#[test]
fn what_has_no_place_is_refused_and_nothing_of_it_stays() {
    use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};

    let container = Container::new().used();
    symlink(container.dir.path(), container.path("upper", "out")).expect("link");
    let root = container.root();
    for refused in [
        (Regular, "../escape", "x"),
        (Regular, "out/escape", "x"),
        (Regular, "etc/passwd/x", "x"),
        (Directory, "etc/passwd", ""),
        (Regular, "etc", "x"),
        (Symlink, "etc", "/"),
        (Link, "stolen", "../../../etc/shadow"),
        (Link, "stolen", "out"),
        (Link, "stolen", "etc"),
        (Char, "null", ""),
        (Block, "disk", ""),
        (Fifo, "pipe2", ""),
        (Link, "made/for/it", "not/there"),
        (Char, "made/null", ""),
    ] {
        let before = exported(&root);
        let outcome = place(&root, "/", &[refused]);
        if refused == (Link, "stolen", "out") {
            // A link is linked, and not what it leads to.
            assert!(outcome.is_ok());
            assert!(fs::symlink_metadata(container.path("upper", "stolen")).expect("there").is_symlink());
            fs::remove_file(container.path("upper", "stolen")).expect("removed");
            continue;
        }
        assert!(matches!(outcome, Err(RootError::Unpack(_))), "{refused:?}: {outcome:?}");
        assert_eq!(exported(&root), before, "{refused:?}");
    }
    assert!(!container.dir.path().join("escape").exists());
    for (directory, members) in [("/none", &[][..]), ("/etc/passwd", &[])] {
        assert!(place(&root, directory, members).is_err(), "{directory}");
    }
}

/// Attacks: C5.
#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let dir = tempfile::tempdir().expect("directory");
    let (inside, outside) = (dir.path().join("root"), dir.path().join("host"));
    for path in [inside.join("real/deep"), outside.join("deep")] {
        fs::create_dir_all(&path).expect("directory");
        fs::write(path.join("file"), if path.starts_with(&inside) { "inside" } else { "secret" })
            .expect("file");
    }
    symlink(&outside, inside.join("link")).expect("link");
    let live = || Root::live(fs::File::open(&inside).expect("opened").into(), 0);
    let (stop, seconds) =
        (AtomicBool::new(false), if std::env::var_os("WHARF_SOAK").is_some() { 600 } else { 1 });
    let (mut read, mut written, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Ordering::Relaxed) {
                let (real, link) = (inside.join("real"), inside.join("link"));
                rustix::fs::renameat_with(rustix::fs::CWD, &real, rustix::fs::CWD, &link, flags)
                    .expect("swapped");
            }
        });
        let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
        while std::time::Instant::now() < end {
            let mut archive = Vec::new();
            match live().pack_path(Path::new("/real/deep"), None, &mut archive) {
                Ok(()) => read += 1,
                Err(RootError::Absent { .. } | RootError::Read { .. } | RootError::Unfit { .. }) => {
                    refused += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            assert!(!String::from_utf8_lossy(&archive).contains("secret"));
            let member = (tar::EntryType::Regular, "deep/new", "mine");
            for directory in ["/", "/real"] {
                let member = if directory == "/" { (member.0, "real/deep/new", member.2) } else { member };
                match place(&live(), directory, &[member]) {
                    Ok(_) => written += 1,
                    Err(_) => refused += 1,
                }
            }
            assert!(!outside.join("deep/new").exists(), "written outside");
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{read} read, {written} written, {refused} refused while a directory and a link were swapped");
    assert!(read > 0 && written > 0, "the race was never won by us: the test shows nothing");
}

/// Attacks: C5, D3.
#[test]
fn what_is_the_host_s_in_a_running_container_is_not_changed_by_a_copy() {
    use tar::EntryType::{Directory, Regular, Symlink};

    let dir = tempfile::tempdir().expect("directory");
    let inside = dir.path().join("root");
    let host = inside.join("mnt/host");
    fs::create_dir_all(&host).expect("directory");
    for (path, mode) in [("public", 0o644), ("secret", 0o600)] {
        fs::write(host.join(path), path).expect("file");
        fs::set_permissions(host.join(path), fs::Permissions::from_mode(mode)).expect("mode");
    }
    for path in [inside.clone(), inside.join("mnt")] {
        chown(path, Some(BASE), Some(BASE)).expect("owner");
    }
    let live = || Root::live(fs::File::open(&inside).expect("opened").into(), BASE);
    let names: Vec<String> = packed(&live(), "/mnt").into_keys().collect();
    assert_eq!(names, ["mnt/", "mnt/host/", "mnt/host/public"], "what everybody may read, and no more");
    for member in [
        (Directory, "host", ""),
        (Regular, "host/public", "x"),
        (Regular, "host/new", "x"),
        (Symlink, "host/l", "/"),
    ] {
        let outcome = place(&live(), "/mnt", &[member]);
        assert!(matches!(outcome, Err(RootError::Unfit { .. })), "{member:?}: {outcome:?}");
    }
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).expect("there"));
    assert_eq!(
        (owner(&host), fs::read_to_string(host.join("public")).expect("there")),
        (0, "public".to_owned())
    );
    assert_eq!(fs::read_dir(&host).expect("listed").count(), 2);
    place(&live(), "/mnt", &[(Regular, "own", "x"), (Symlink, "link", "own")]).expect("its own");
    assert_eq!(owner(&inside.join("mnt/own")), BASE + 33);
    fs::set_permissions(&host, fs::Permissions::from_mode(0o700)).expect("mode");
    assert!(matches!(live().stat(Path::new("/mnt/host/public"), false), Err(RootError::Unfit { .. })));
}

/// Attacks: C5.
#[test]
fn a_path_leads_into_volumes_of_a_container_that_does_not_run_and_not_out_of_them() {
    use tar::EntryType::{Regular, Symlink};

    let container = Container::new().used();
    let volume = container.dir.path().join("volume");
    fs::create_dir_all(volume.join("sub")).expect("directory");
    fs::write(volume.join("sub/file"), "mine").expect("file");
    fs::write(container.dir.path().join("secret"), "host").expect("file");
    // Over the image's own, out to the container's root, and up to the host.
    symlink("/etc/passwd", volume.join("absolute")).expect("link");
    symlink("../../../../../secret", volume.join("up")).expect("link");
    symlink("/var/lib", container.path("upper", "way")).expect("link");
    fs::create_dir(container.path("upper", "fresh")).expect("directory");
    fs::create_dir(container.dir.path().join("empty")).expect("directory");
    let open = |name: &str| fs::File::open(container.dir.path().join(name)).expect("opened").into();
    let directory = |target: &str, name: &str, read_only, filled| {
        let root = Root::live(open(name), 0);
        Mount { target: target.into(), what: Mounted::Directory { root, read_only, filled } }
    };
    let mounts = || {
        vec![
            directory("/way/data", "volume", false, true),
            directory("/fixed", "volume", true, false),
            directory("/usr", "empty", false, true),
            directory("/fresh", "empty", false, true),
            Mount { target: "/tmpfs".into(), what: Mounted::Absent("is in memory") },
        ]
    };
    let root = container.root().with_mounts(mounts(), false);

    // By each way to it.
    for path in
        ["/var/lib/data/sub", "/way/data/sub", "/fixed/../way/data/./sub/", "/fixed/sub/../../fixed/sub"]
    {
        assert_eq!(packed(&root, path)["sub/file"], "Regular 0:0 644 mine", "{path}");
    }
    assert!(packed(&root, "/way/data").contains_key("data/sub/file"), "its top has the mount's name");
    assert_eq!(root.stat(Path::new("/fixed"), false).expect("there").name, "fixed");
    assert_eq!(root.stat(Path::new("/fixed/absolute"), true).expect("there").name, "passwd");
    for path in ["/fixed/up", "/fixed/none", "/none"] {
        let absent = root.stat(Path::new(path), true).expect_err("not there");
        assert_eq!(absent.to_string(), format!("there is no {path} in the container"));
    }
    assert!(!packed(&root, "/fixed").values().any(|member| member.contains("host")));

    place(&root, "/way/data", &[(Regular, "sub/new", "x"), (Symlink, "out", "/etc")]).expect("placed");
    let made = fs::metadata(volume.join("sub/new")).expect("in the volume");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 33, "ids of volumes are the container's own");
    place(&root, "/way/data/out", &[(Regular, "by-link", "x")]).expect("placed");
    assert!(container.path("upper", "etc/by-link").exists(), "a link leads where the container would go");
    place(&root, "/fresh", &[(Regular, "x", "x")]).expect("nothing of the image would be missed");
    fs::remove_file(container.dir.path().join("empty/x")).expect("removed");
    let refused = |directory: &str, member| match place(&root, directory, &[member]) {
        Err(error) => support::chain(&error),
        Ok(placed) => panic!("{directory}: {placed:?}"),
    };
    let file = (Regular, "x", "x");
    assert!(refused("/fixed", file).contains("is read-only"));
    assert!(refused("/tmpfs", file).contains("is in memory"));
    assert!(refused("/usr", file).contains("start it once"), "an empty volume is filled first");
    assert!(refused("/", (Regular, "var/lib/data/x", "x")).contains("a volume is mounted there"));
    let root = container.root().with_mounts(mounts(), true);
    assert!(matches!(place(&root, "/etc", &[file]), Err(RootError::Unfit { .. })));
    place(&root, "/way/data", &[file]).expect("a volume is written to all the same");
}
