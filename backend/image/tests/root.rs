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
use wharf_image::{ChangeKind, CommitOptions, Root, RootError};

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
    let host = Host::new(wharf_image::Limits::default());
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
