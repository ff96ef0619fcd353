//! Pulls from Debian's `docker-registry` of images that skopeo pushed, and imports of skopeo's archives.
//!
//! Needs root (layers hold devices and owners), `docker-registry`, `skopeo`, `openssl` and `busybox-static`.
#![expect(clippy::tests_outside_test_module, reason = "an integration test")]
#![expect(clippy::expect_used, reason = "an integration test and its support")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::layout::{GZIP, Layout, PLAIN, ZSTD, busybox, names};
use support::{Host, Tar, chain};
use tempfile::TempDir;
use tokio::sync::watch;
use wharf_image::{
    Credentials, Digest, Image, ImageError, ImageRef, ImportOptions, Limits, Mirror, Phase, PullOptions,
    RegistryClient, RegistryConfig, RegistryError, StoreError,
};

const USER: &str = "user";
const PASSWORD: &str = "secret";
/// bcrypt of the password, as `htpasswd -B` would write it.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry of our own on a loopback port, which ends with this value.
struct Registry {
    directory: TempDir,
    child: Child,
    address: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    Password,
    Tls,
}

impl Registry {
    fn start(door: Door) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("address").port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
            path("data")
        );
        if door == Door::Password {
            fs::write(path("htpasswd"), HTPASSWD).expect("writes");
            config.extend(["auth: {htpasswd: {realm: test, path: ", &path("htpasswd"), "}}\n"]);
        }
        config.extend(["http:\n  addr: ", &address, "\n"]);
        if door == Door::Tls {
            certificates(directory.path());
            config.extend([
                "  tls: {certificate: ",
                &path("server.crt"),
                ", key: ",
                &path("server.key"),
                "}\n",
            ]);
        }
        fs::write(path("config.yml"), config).expect("writes");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { directory, child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::yield_now();
        }
        registry
    }

    fn push(&self, layout: &Layout, name: &str, tag: &str) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
        skopeo.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        skopeo.arg(format!("oci:{}:{tag}", layout.path().display()));
        skopeo.arg(format!("docker://{}/{name}", self.address));
        let pushed = skopeo.output().expect("skopeo is installed");
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    }

    fn reference(&self, name: &str) -> ImageRef {
        format!("{}/{name}", self.address).parse().expect("a reference")
    }

    /// A client that speaks HTTP to this registry.
    fn client(&self) -> RegistryClient {
        let config = RegistryConfig { insecure_hosts: vec![self.address.clone()], ..quick() };
        RegistryClient::new(config).expect("a client")
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        let shard = hex.get(..2).expect("two digits");
        self.directory.path().join("data/docker/registry/v2/blobs/sha256").join(shard).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("kills its own child");
        self.child.wait().expect("reaps its own child");
    }
}

fn quick() -> RegistryConfig {
    RegistryConfig { attempts: 2, connect_timeout_ms: 2_000, ..RegistryConfig::default() }
}

fn certificates(directory: &Path) {
    fs::write(directory.join("san"), "subjectAltName=IP:127.0.0.1\n").expect("writes");
    for command in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile san",
    ] {
        let made = Command::new("openssl")
            .args(command.split(' '))
            .current_dir(directory)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{command}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

async fn pull(host: &Host, client: &RegistryClient, reference: &ImageRef) -> Result<Image, ImageError> {
    client.pull(&host.store, &host.store.lease(), reference, PullOptions::default()).await
}

fn second_layer() -> Vec<u8> {
    Tar::default().directory("etc/").file("etc/motd", "welcome\n").file("etc/.wh.os-release", "").end()
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_an_image_for_this_machine_from_an_index() {
    let registry = Registry::start(Door::Open);
    let (base, second, empty) = (busybox(), second_layer(), Tar::default().end());
    let mut layout = Layout::new();
    let here = wharf_image::Platform::host().architecture;
    // The same empty layer twice, as builders do.
    let image = layout.image(&here, &[(GZIP, &base), (ZSTD, &second), (PLAIN, &empty), (PLAIN, &empty)]);
    let other = layout.image("other", &[(GZIP, &second)]);
    let index = layout.index(&[("other", other), (&here, image.clone())]);
    layout.name("multi", index);
    registry.push(&layout, "team/busybox:multi", "multi");

    let host = Host::new(Limits::default());
    let reference = registry.reference("team/busybox:multi");
    let (sender, receiver) = watch::channel(Vec::new());
    let options = PullOptions { progress: Some(sender), ..PullOptions::default() };
    let lease = host.store.lease();
    let pulled = registry.client().pull(&host.store, &lease, &reference, options).await;
    let pulled = pulled.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(pulled.manifest_digest.to_string(), image["digest"].as_str().expect("a digest"));
    assert_eq!(pulled.config.config.labels["architecture"], here);
    assert_eq!(pulled.config.config.cmd, ["/bin/sh"]);
    let diff_ids: Vec<Digest> = pulled.layers.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(diff_ids, [Digest::of(&base), Digest::of(&second), Digest::of(&empty), Digest::of(&empty)]);
    assert_eq!(pulled.layers[1].media_type, ZSTD);
    assert!(
        pulled.size_bytes > 1_000_000 && pulled.layers[0].compressed_bytes < pulled.layers[0].unpacked_bytes
    );
    let progress = receiver.borrow().clone();
    assert!(progress.iter().all(|layer| matches!(layer.phase, Phase::Done | Phase::Exists)), "{progress:?}");
    assert!(progress.iter().all(|layer| layer.current_bytes == layer.total_bytes && layer.total_bytes > 0));

    let paths = host.store.layer_paths(&pulled).await.expect("layers");
    let uppermost_first: Vec<PathBuf> =
        diff_ids.iter().rev().map(|diff_id| PathBuf::from(diff_id.hex()).join("diff")).collect();
    assert_eq!(paths, uppermost_first);
    let lowest = host.store.layers_root().join(paths.last().expect("four"));
    assert_eq!(
        fs::read(lowest.join("bin/busybox")).expect("a file"),
        fs::read("/bin/busybox").expect("a file")
    );
    let ran = Command::new(lowest.join("bin/busybox")).args(["echo", "alive"]).output().expect("runs");
    assert_eq!(ran.stdout, b"alive\n");

    // Nothing is fetched twice, and nothing is needed from the registry to read it back.
    let (sender, receiver) = watch::channel(Vec::new());
    let options = PullOptions { progress: Some(sender), ..PullOptions::default() };
    let again = registry.client().pull(&host.store, &lease, &reference, options).await.expect("pulls");
    assert!(receiver.borrow().iter().all(|layer| layer.phase == Phase::Exists));
    drop(registry);
    assert_eq!(again, pulled);
    assert_eq!(host.store.load(reference, pulled.manifest_digest).await.expect("offline"), pulled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_platform_tag_or_repository_is_said() {
    let registry = Registry::start(Door::Open);
    let mut layout = Layout::new();
    let image = layout.image("other", &[(GZIP, &second_layer())]);
    let index = layout.index(&[("other", image.clone())]);
    layout.name("index", index);
    layout.name("single", image);
    registry.push(&layout, "a:index", "index");
    registry.push(&layout, "a:single", "single");
    let host = Host::new(Limits::default());
    for tag in ["a:index", "a:single"] {
        let error = pull(&host, &registry.client(), &registry.reference(tag)).await.expect_err(tag);
        assert!(chain(&error).starts_with("no image for platform linux/"), "{}", chain(&error));
    }
    for missing in ["a:missing", "b:single"] {
        let error = pull(&host, &registry.client(), &registry.reference(missing)).await.expect_err(missing);
        assert!(matches!(error, ImageError::Registry(RegistryError::NotFound { .. })), "{error:?}");
    }
    let pinned = registry.reference("a").pinned(Digest::of(b"nothing"));
    let error = pull(&host, &registry.client(), &pinned).await.expect_err("no such digest");
    assert!(matches!(error, ImageError::Registry(RegistryError::NotFound { .. })), "{error:?}");
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_given() {
    let registry = Registry::start(Door::Password);
    let mut layout = Layout::new();
    let image = layout.image(&wharf_image::Platform::host().architecture, &[(GZIP, &second_layer())]);
    layout.name("1", image);
    registry.push(&layout, "private:1", "1");
    let host = Host::new(Limits::default());
    let reference = registry.reference("private:1");
    let with = async |password: Option<&str>| {
        let credentials =
            password.map(|password| Credentials { username: USER.to_owned(), password: password.to_owned() });
        let options = PullOptions { credentials, ..PullOptions::default() };
        registry.client().pull(&host.store, &host.store.lease(), &reference, options).await
    };
    for wrong in [None, Some("wrong")] {
        let error = with(wrong).await.expect_err("private");
        assert!(matches!(error, ImageError::Registry(RegistryError::Unauthorized { .. })), "{error:?}");
    }
    host.assert_empty();
    with(Some(PASSWORD)).await.expect("the right password");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_noticed_and_nothing_is_left() {
    let registry = Registry::start(Door::Open);
    let base = busybox();
    for (tag, packing) in [("gzip", GZIP), ("zstd", ZSTD), ("plain", PLAIN)] {
        let mut layout = Layout::new();
        let image = layout.image(&wharf_image::Platform::host().architecture, &[(packing, &base)]);
        layout.name(tag, image.clone());
        registry.push(&layout, &format!("a:{tag}"), tag);
        let manifest: serde_json::Value =
            serde_json::from_slice(&layout.blobs[image["digest"].as_str().expect("digest")]).expect("JSON");
        let stored = registry.blob(manifest["layers"][0]["digest"].as_str().expect("digest"));
        let mut bytes = fs::read(&stored).expect("is where registries keep it");
        for at in [bytes.len() / 2, bytes.len() / 2 + 1, bytes.len() / 3] {
            bytes[at] ^= 0x55;
        }
        fs::write(&stored, bytes).expect("damages");
        let host = Host::new(Limits::default());
        let error =
            pull(&host, &registry.client(), &registry.reference(&format!("a:{tag}"))).await.expect_err(tag);
        assert!(
            matches!(error, ImageError::Registry(RegistryError::DigestMismatch { .. })),
            "{tag}: {}",
            chain(&error)
        );
        host.assert_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_registry_is_said_to_be_unreachable() {
    let registry = Registry::start(Door::Open);
    let (client, reference) = (registry.client(), registry.reference("a:1"));
    drop(registry);
    let host = Host::new(Limits::default());
    let error = pull(&host, &client, &reference).await.expect_err("dead");
    assert!(matches!(error, ImageError::Registry(RegistryError::Unreachable { .. })), "{error:?}");
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_an_authority_that_is_trusted() {
    let registry = Registry::start(Door::Tls);
    let mut layout = Layout::new();
    let image = layout.image(&wharf_image::Platform::host().architecture, &[(GZIP, &second_layer())]);
    layout.name("1", image);
    registry.push(&layout, "a:1", "1");
    let host = Host::new(Limits::default());
    let reference = registry.reference("a:1");
    let strange = RegistryClient::new(quick()).expect("a client");
    let error = pull(&host, &strange, &reference).await.expect_err("unknown authority");
    assert!(matches!(error, ImageError::Registry(RegistryError::Unreachable { .. })), "{error:?}");
    assert!(chain(&error).to_lowercase().contains("certificate"), "{}", chain(&error));
    let ca = fs::read_to_string(registry.directory.path().join("ca.crt")).expect("a certificate");
    let config = RegistryConfig { ca_certificates_pem: vec![ca], ..quick() };
    pull(&host, &RegistryClient::new(config).expect("a client"), &reference).await.expect("trusted");
    let broken = RegistryConfig {
        ca_certificates_pem: vec!["-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".to_owned()],
        ..quick()
    };
    assert!(matches!(RegistryClient::new(broken), Err(RegistryError::Configuration { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_hub_images_come_from_the_first_mirror_that_has_them() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("address").to_string();
    let (empty, full) = (Registry::start(Door::Open), Registry::start(Door::Open));
    let mut layout = Layout::new();
    let image = layout.image(&wharf_image::Platform::host().architecture, &[(GZIP, &second_layer())]);
    layout.name("1", image);
    full.push(&layout, "hub/library/thing:1", "1");
    let mirror = |host: &str| Mirror { host: host.to_owned(), prefix: "hub".to_owned(), credentials: None };
    let config = RegistryConfig {
        insecure_hosts: vec![dead.clone(), empty.address.clone(), full.address.clone()],
        mirrors: vec![mirror(&dead), mirror(&empty.address), mirror(&full.address)],
        ..quick()
    };
    let host = Host::new(Limits::default());
    let image =
        pull(&host, &RegistryClient::new(config).expect("a client"), &"thing:1".parse().expect("a name"))
            .await;
    assert_eq!(image.expect("from the third").reference.familiar(), "thing:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_the_archives_that_skopeo_writes() {
    let (base, second) = (busybox(), second_layer());
    let here = wharf_image::Platform::host().architecture;
    let archives = tempfile::tempdir().expect("temp dir");
    let mut imported = Vec::new();
    // skopeo writes no Docker archive from zstd layers.
    for (kind, packing) in [("docker-archive", GZIP), ("oci-archive", ZSTD)] {
        let mut layout = Layout::new();
        let image = layout.image(&here, &[(GZIP, &base), (packing, &second), (GZIP, &second)]);
        layout.name("1", image);
        let file = archives.path().join(kind);
        let made = Command::new("skopeo")
            .args(["copy", "--quiet", &format!("oci:{}:1", layout.path().display())])
            .arg(format!("{kind}:{}:team/app:1", file.display()))
            .output()
            .expect("skopeo is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let host = Host::new(Limits::default());
        let lease = host.store.lease();
        let from_file = host.store.import_file(&lease, &file, ImportOptions::default()).await;
        let from_file = from_file.unwrap_or_else(|error| panic!("{kind}: {}", chain(&error)));
        assert_eq!(from_file.len(), 1);
        let image = from_file.into_iter().next().expect("one");
        assert_eq!(image.reference.canonical(), "docker.io/team/app:1", "{kind}");
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(diff_ids, [Digest::of(&base), Digest::of(&second), Digest::of(&second)]);
        assert_eq!(
            host.store.load(image.reference.clone(), image.manifest_digest).await.expect("offline"),
            image
        );
        // As a compressed stream, under another name: the same image.
        let packed = std::io::Cursor::new(support::gzip(&fs::read(&file).expect("reads")));
        let options =
            ImportOptions { reference: Some("other:2".parse().expect("a name")), ..ImportOptions::default() };
        let streamed = host.store.import(&lease, packed, options).await.expect("imports");
        assert_eq!(streamed[0].manifest_digest, image.manifest_digest);
        assert_eq!(streamed[0].reference.familiar(), "other:2");
        assert!(fs::read_dir(host.path().join("state/images/ingest")).expect("lists").next().is_none());
        imported.push(image);
    }
    let [docker, oci] = imported.as_slice() else { panic!("two") };
    assert_eq!(docker.config_digest, oci.config_digest);
    assert_eq!(
        oci.layers.iter().map(|layer| layer.media_type.as_str()).collect::<Vec<_>>(),
        [GZIP, ZSTD, GZIP]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_what_docker_save_writes_and_refuses_what_does_not_fit() {
    let tar = second_layer();
    let diff_id = Digest::of(&tar);
    let config = |diff_id: Digest| {
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}}).to_string()
    };
    let manifest = r#"[{"Config":"c.json","RepoTags":["a:1","b:2"],"Layers":["1/layer.tar","2/layer.tar"]}]"#;
    let text = |bytes: &[u8]| bytes.to_vec();
    let archive = |config: &str, manifest: &str| {
        Tar::default()
            .directory("1/")
            .add(&support::Member { name: "1/layer.tar", data: &text(&tar), ..support::Member::default() })
            // Old versions of Docker link what they have written before.
            .symlink("2/layer.tar", "../1/layer.tar")
            .file("c.json", config)
            .file("repositories", "{}")
            .file("manifest.json", manifest)
            .end()
    };
    let host = Host::new(Limits::default());
    let import = async |archive: Vec<u8>| {
        host.store.import(&host.store.lease(), std::io::Cursor::new(archive), ImportOptions::default()).await
    };
    let error = import(archive(&config(Digest::of(b"other")), manifest)).await.expect_err("other content");
    assert!(matches!(error, ImageError::DiffIdMismatch { .. }), "{error:?}");
    for (wrong, why) in [
        (manifest.replace("2/layer.tar", "3/layer.tar"), "archive has no \"3/layer.tar\""),
        (manifest.replace(r#","2/layer.tar""#, ""), "manifest has 1 layers and its configuration 2"),
        (manifest.replace(r#""a:1","b:2""#, ""), "archive names no image"),
        ("[]".to_owned(), "archive holds no image"),
        ("{".to_owned(), "malformed \"manifest.json\""),
    ] {
        let error = import(archive(&config(diff_id), &wrong)).await.expect_err(why);
        assert!(chain(&error).contains(why), "{}", chain(&error));
    }
    host.assert_empty();
    let images = import(archive(&config(diff_id), manifest)).await.expect("imports");
    let names: Vec<String> = images.iter().map(|image| image.reference.familiar()).collect();
    assert_eq!(names, ["a:1", "b:2"]);
    assert_eq!(images[0].layers.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_root_file_system_becomes_an_image_of_one_layer() {
    let tar = busybox();
    let mut options = ImportOptions {
        reference: Some("root:1".parse().expect("a name")),
        created: Some("2026-11-23T00:00:00Z".to_owned()),
        ..ImportOptions::default()
    };
    options.run.cmd = vec!["/bin/sh".to_owned()];
    options.run.env = vec!["A=b".to_owned()];
    let host = Host::new(Limits::default());
    let lease = host.store.lease();
    let mut manifests = BTreeSet::new();
    for packed in [tar.clone(), support::gzip(&tar), zstd::encode_all(tar.as_slice(), 3).expect("memory")] {
        let images =
            host.store.import(&lease, std::io::Cursor::new(packed), options.clone()).await.expect("imports");
        let [image] = images.as_slice() else { panic!("one") };
        assert_eq!(
            (image.config.config.cmd.as_slice(), image.config.config.env.as_slice()),
            (&["/bin/sh".to_owned()][..], &["A=b".to_owned()][..])
        );
        assert_eq!(image.layers[0].diff_id, Digest::of(&tar));
        assert_eq!(image.config.history.len(), 1);
        manifests.insert(image.manifest_digest);
    }
    assert_eq!(manifests.len(), 1, "the same root file system is the same image however it was packed");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_keeps_what_roots_and_leases_need() {
    let registry = Registry::start(Door::Open);
    let here = wharf_image::Platform::host().architecture;
    let (shared, one, two) =
        (second_layer(), Tar::default().file("one", "1").end(), Tar::default().file("two", "2").end());
    let mut layout = Layout::new();
    let first = layout.image(&here, &[(GZIP, &shared), (GZIP, &one)]);
    let second = layout.image(&here, &[(GZIP, &shared), (GZIP, &two)]);
    layout.name("1", first);
    layout.name("2", second);
    registry.push(&layout, "a:1", "1");
    registry.push(&layout, "a:2", "2");
    let host = Host::new(Limits::default());
    let lease = host.store.lease();
    let first = pull(&host, &registry.client(), &registry.reference("a:1")).await.expect("pulls");
    let second = registry
        .client()
        .pull(&host.store, &lease, &registry.reference("a:2"), PullOptions::default())
        .await
        .expect("pulls");
    let roots = BTreeSet::from([first.manifest_digest]);
    // The lease still protects the second image.
    let collected = host.store.collect(roots.clone()).await.expect("collects");
    assert_eq!((collected.blobs, collected.layers), (0, 0));
    drop(lease);
    let collected = host.store.collect(roots).await.expect("collects");
    assert_eq!((collected.blobs, collected.layers), (2, 1));
    assert!(collected.freed_bytes > 0);
    assert_eq!(host.store.load(first.reference.clone(), first.manifest_digest).await.expect("kept"), first);
    let gone = host.store.load(second.reference, second.manifest_digest).await;
    assert!(matches!(gone, Err(ImageError::Store(StoreError::Missing { .. }))));
    // A root that cannot be read stops it: what it needs is unknown.
    let before = names(&host.path().join("state"));
    assert!(host.store.collect(BTreeSet::from([second.manifest_digest])).await.is_err());
    assert_eq!(names(&host.path().join("state")), before);
    let collected = host.store.collect(BTreeSet::new()).await.expect("collects");
    assert_eq!((collected.blobs, collected.layers), (2, 2));
    host.assert_empty();
}
