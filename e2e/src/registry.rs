//! A real registry, and a busybox image made here from Debian's static binary.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The programs of the image; all are busybox.
const APPLETS: [&str; 44] = [
    "sh", "awk", "basename", "cat", "chmod", "chown", "cut", "date", "dd", "echo", "env", "false", "free",
    "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ls", "mkdir", "mount", "mv", "nc", "nproc",
    "ping", "printf", "ps", "pwd", "rm", "sed", "seq", "sleep", "sort", "stat", "stty", "tail", "test",
    "touch", "true", "umount", "wc", "wget",
];

/// An image as an OCI layout in a directory.
#[derive(Debug)]
pub struct Image {
    layout: PathBuf,
}

impl Image {
    /// Makes the busybox image below `dir`.
    pub fn busybox(dir: &Path) -> Result<Self> {
        let root = dir.join("root");
        for part in ["bin", "etc", "tmp", "data", "proc", "sys", "dev", "www"] {
            fs::create_dir_all(root.join(part)).with_context(|| format!("make {part} of the image"))?;
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))
            .context("open /tmp to all")?;
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .context("copy /bin/busybox (package busybox-static)")?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("link {applet}"))?;
        }
        add_program(&root, "/usr/bin/getent")?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\nguest:x:1000:\n")?;
        fs::write(root.join("www/index.html"), "hello from the container\n")?;
        let config = json!({ "Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/" });
        Self::from_root(dir, &root, &config)
    }

    /// Makes an image of one layer from a directory tree.
    pub fn from_root(dir: &Path, root: &Path, config: &serde_json::Value) -> Result<Self> {
        let archive = dir.join("layer.tar");
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--sort=name", "--mtime=@1700000000", "-C"]).arg(root);
        // As build tools do it; the times of a look at a file would make the digest another each time.
        tar.args(["--xattrs", "--xattrs-include=*", "--pax-option=delete=atime,delete=ctime"]);
        run(tar.arg("-cf").arg(&archive).arg("."))?;
        Self::from_layer(dir, &archive, config)
    }

    /// Makes an image of one uncompressed layer.
    pub fn from_layer(dir: &Path, archive: &Path, config: &serde_json::Value) -> Result<Self> {
        let diff_id = sha256(&fs::read(archive).context("read the layer")?);
        let layout = dir.join("layout");
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).context("make the layout")?;
        let packed = dir.join("layer.tar.gz");
        run(Command::new("sh").arg("-c").arg("gzip -1 -n < \"$0\" > \"$1\"").arg(archive).arg(&packed))?;
        let layer = store(&blobs, &fs::read(&packed).context("read the packed layer")?)?;
        let config = store(
            &blobs,
            &serde_json::to_vec(&json!({
                "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
                "os": "linux",
                "config": config,
                "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
                "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": "wharf-e2e" }],
            }))?,
        )?;
        let manifest = store(
            &blobs,
            &serde_json::to_vec(&json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
                "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
            }))?,
        )?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        fs::write(
            layout.join("index.json"),
            serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?,
        )?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { layout })
    }

    /// The image in this layout.
    pub(crate) fn at(layout: PathBuf) -> Self {
        Self { layout }
    }

    /// The layout's directory.
    pub(crate) fn layout(&self) -> &Path {
        &self.layout
    }

    /// The whole layout as one tar archive, as `skopeo copy … oci-archive:` writes it.
    pub fn archive(&self, path: &Path) -> Result<Vec<u8>> {
        run(Command::new("tar").arg("-C").arg(&self.layout).arg("-cf").arg(path).arg("."))?;
        fs::read(path).context("read the archive")
    }
}

/// Copies a program of this machine with the libraries it is linked to.
fn add_program(root: &Path, program: &str) -> Result<()> {
    let linked = run(Command::new("ldd").arg(program))?;
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a file lies in a directory")?)?;
        fs::copy(file, &target).with_context(|| format!("copy {file}"))?;
    }
    Ok(())
}

fn store(blobs: &Path, bytes: &[u8]) -> Result<(String, usize)> {
    let digest = sha256(bytes);
    fs::write(blobs.join(&digest), bytes).with_context(|| format!("write blob {digest}"))?;
    Ok((digest, bytes.len()))
}

fn descriptor(media_type: &str, (digest, size): &(String, usize)) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Runs a program to its end; what it printed is the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A `docker-registry` on loopback.
#[derive(Debug)]
pub struct Registry {
    /// `address:port`.
    pub host: String,
    dir: PathBuf,
    process: Child,
}

impl Registry {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let host = format!("127.0.0.1:{port}");
        let storage = dir.join("registry");
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            storage.display()
        );
        fs::write(&config, text).context("write the registry's configuration")?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("registry.log")).context("make the registry's log")?)
            .spawn()
            .context("start docker-registry (package docker-registry)")?;
        Ok(Self { host, dir: storage, process })
    }

    /// Copies an image into it with skopeo and returns its reference.
    pub fn push(&self, image: &Image, name: &str) -> Result<String> {
        let reference = format!("{}/{name}", self.host);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        run(skopeo
            .arg(format!("oci:{}:latest", image.layout.display()))
            .arg(format!("docker://{reference}")))?;
        Ok(reference)
    }

    /// Every blob's file on the registry's disk that is larger than `bytes`.
    pub fn blobs_above(&self, bytes: u64) -> Result<Vec<PathBuf>> {
        let found =
            run(Command::new("find").arg(&self.dir).args(["-name", "data", "-size", &format!("+{bytes}c")]))?;
        Ok(found.lines().map(PathBuf::from).collect())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill().context("stop the registry")?;
        self.process.wait().context("wait for the registry")?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already ended is as good; the search for leftovers would find it otherwise.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("look for a free port")?;
    Ok(listener.local_addr()?.port())
}
