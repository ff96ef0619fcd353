//! Another machine: a network namespace of its own, joined to the test's by one cable.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::registry::run;

/// The test's end of the cable: where the other machine finds the agent and published ports.
pub const HOST_ADDRESS: &str = "192.0.2.1";
/// The other machine's own address.
const ADDRESS: &str = "192.0.2.2";

/// The machine. It is there until it is dropped, and its cable with it.
#[derive(Debug)]
pub struct Neighbour {
    holder: Child,
}

impl Neighbour {
    /// Makes it beside the network namespace of this thread.
    pub fn new() -> Result<Self> {
        let script = "ip link set lo up && echo ready && exec sleep infinity";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("make a network namespace")?;
        let output = holder.stdout.take().context("take the holder's output")?;
        let neighbour = Self { holder };
        BufReader::new(output).read_line(&mut String::new()).context("wait for the namespace")?;
        let pid = neighbour.holder.id().to_string();
        run(Command::new("ip")
            .args(["link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", &pid]))?;
        run(Command::new("ip").args(["address", "add", &format!("{HOST_ADDRESS}/24"), "dev", "cable"]))?;
        run(Command::new("ip").args(["link", "set", "cable", "up"]))?;
        neighbour.run("ip", &["address", "add", &format!("{ADDRESS}/24"), "dev", "eth0"])?;
        neighbour.run("ip", &["link", "set", "eth0", "up"])?;
        Ok(neighbour)
    }

    /// A program on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Does something from it: sockets that are opened in there are its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
        // A thread that has moved ends here; nobody else meets it.
        std::thread::scope(|scope| {
            let moved = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
                work()
            });
            moved.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a program on it and returns what it printed; it must succeed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // A link that could not be removed is found by the search for leftovers.
        drop(run(Command::new("ip").args(["link", "delete", "cable"])));
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
