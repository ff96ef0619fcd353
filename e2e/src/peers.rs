//! Other container tools, to be compared with: each in a place of its own, ended with all it made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::leftovers;
use crate::registry::run;
use crate::world::World;

/// What `dockerd` runs as: it sees a `/run` of its own, because containerd's sockets have fixed names.
const DOCKERD: &str = "set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
ip link set lo up
exec dockerd \"$@\"";

/// Debian's client; another one may come first in the path.
const CLIENT: &str = "/usr/bin/docker";

/// A Docker daemon with its own data, sockets, network, mounts and processes.
#[derive(Debug)]
pub struct Dockerd {
    process: Child,
    socket: PathBuf,
    cgroup: String,
    /// Of the daemon, with those of what it runs containers with.
    pub version: String,
}

impl Dockerd {
    /// Starts one below the world's directory and gives it the busybox image as `busybox`.
    pub fn start(world: &World) -> Result<Self> {
        let dir = world.dir().join("docker");
        fs::create_dir_all(&dir).context("make the daemon's directory")?;
        let config = dir.join("daemon.json");
        fs::write(&config, "{}").context("write the daemon's configuration")?;
        let socket = dir.join("docker.sock");
        let cgroup = format!("{}-docker", world.instance);
        let mut command = Command::new("sh");
        command.args(["-c", DOCKERD, "sh", "--log-level", "error", "--storage-driver", "overlay2"]);
        command.arg("--config-file").arg(&config);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("docker.pid"));
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.arg("--cgroup-parent").arg(format!("/{cgroup}"));
        let log = fs::File::create(dir.join("log")).context("make the daemon's log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
        let process = spawn_apart(&mut command)?;
        let mut daemon = Self { process, socket, cgroup, version: String::new() };
        let versions =
            "dockerd {{.Server.Version}}{{range .Server.Components}}, {{.Name}} {{.Version}}{{end}}";
        let answers = world.until("dockerd answers", || {
            let said = run(daemon.client().args(["version", "--format", versions]));
            daemon.version = said.as_deref().map_or(String::new(), |said| said.trim().to_owned());
            Ok(said.is_ok())
        });
        answers.with_context(|| fs::read_to_string(dir.join("log")).unwrap_or_default())?;
        daemon.import(&world.busybox_layer()?, "busybox")?;
        Ok(daemon)
    }

    /// Gives it another image of one layer.
    pub fn import(&self, layer: &Path, name: &str) -> Result<()> {
        run(self.client().arg("import").arg(layer).arg(name)).map(drop)
    }

    /// A command line of its client.
    pub fn client(&self) -> Command {
        let mut command = Command::new(CLIENT);
        command.arg("--host").arg(format!("unix://{}", self.socket.display()));
        command
    }

    /// Runs its client with these arguments to the end.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        run(self.client().args(arguments))
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // The first process of a namespace takes all others of it along.
        drop(self.process.kill());
        drop(self.process.wait());
        for dir in leftovers::cgroup_dirs(&self.cgroup) {
            remove_groups(&dir);
        }
    }
}

/// Starts a program with a network, mounts and processes of its own.
fn spawn_apart(command: &mut Command) -> Result<Child> {
    // Namespaces belong to a thread; what the thread spawns inherits them.
    std::thread::scope(|scope| {
        let spawned = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
                .context("make namespaces for a peer")?;
            command.spawn().with_context(|| format!("start {:?}", command.get_args()))
        });
        spawned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Removes a tree of empty cgroups; one that is gone or not empty is not ours to worry about.
fn remove_groups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    drop(fs::remove_dir(dir));
}

/// A bare OCI runtime with a bundle that runs one command in the busybox image, without a network.
#[derive(Debug)]
pub struct Bundle {
    program: &'static str,
    dir: PathBuf,
    cgroup: String,
}

impl Bundle {
    /// Makes the bundle with the program's own `spec` command.
    pub fn new(world: &World, program: &'static str, command: &[&str]) -> Result<Self> {
        let dir = world.dir().join(program);
        fs::create_dir_all(dir.join("state")).context("make the bundle")?;
        run(Command::new(program).arg("spec").current_dir(&dir))?;
        let path = dir.join("config.json");
        let text = fs::read_to_string(&path).context("read the bundle's configuration")?;
        let mut config: Value =
            serde_json::from_str(&text).context("understand the bundle's configuration")?;
        let cgroup = format!("{}-{program}", world.instance);
        config["process"]["args"] = json!(command);
        config["process"]["terminal"] = json!(false);
        config["root"] = json!({ "path": world.busybox_root()?, "readonly": true });
        config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}/one"));
        fs::write(&path, serde_json::to_vec(&config)?).context("write the bundle's configuration")?;
        Ok(Self { program, dir, cgroup })
    }

    /// Runs it to its end and removes what the runtime knows of it.
    pub fn run(&self) -> Result<()> {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.dir.join("state")).args(["run", "--bundle"]).arg(&self.dir);
        let said = command.arg(&self.cgroup).stdin(Stdio::null()).output().context("run the runtime")?;
        ensure!(said.status.success(), "{}: {}", self.program, String::from_utf8_lossy(&said.stderr));
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for dir in leftovers::cgroup_dirs(&self.cgroup) {
            remove_groups(&dir);
        }
    }
}
