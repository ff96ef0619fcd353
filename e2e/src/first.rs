//! The time of a container's first instruction, told by that instruction.
//!
//! The monotonic clock is the same in a container as outside: no time namespace is made.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::registry::{Image, run};
use crate::world::World;

const SOURCE: &str = include_str!("first.c");
/// Where the program is in the image.
pub const PROGRAM: &str = "/first";

/// An image with the program in it, beside what the busybox image has.
#[derive(Debug)]
pub struct First {
    /// Its reference in the world's registry.
    pub image: String,
    /// Its layer, for a peer that takes an archive.
    pub layer: PathBuf,
    /// Its files, for a peer that takes a directory.
    pub root: PathBuf,
}

impl First {
    /// Compiles the program and pushes the image.
    pub fn new(world: &World) -> Result<Self> {
        let dir = world.dir().join("first");
        let root = dir.join("root");
        fs::create_dir_all(&dir).context("make the image's directory")?;
        run(Command::new("cp").arg("-a").arg(world.busybox_root()?).arg(&root))?;
        let source = dir.join("first.c");
        fs::write(&source, SOURCE).context("write the program's source")?;
        // The compiler that links Rust's programs too.
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-no-pie", "-O1"]);
        run(compiler.arg("-o").arg(root.join(PROGRAM.trim_start_matches('/'))).arg(&source))?;
        let config = json!({ "Cmd": [PROGRAM], "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/" });
        let image = Image::from_root(&dir, &root, &config)?;
        let image = world.registry.borrow().push(&image, "library/first:1")?;
        Ok(Self { image, layer: dir.join("layer.tar"), root })
    }
}

/// The monotonic clock now.
pub fn now() -> Result<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).context("read the clock")
}

/// How long after `begin` the first instruction was, by what it printed.
pub fn after(begin: Duration, printed: &str) -> Result<Duration> {
    let at_ns = printed.trim().parse().with_context(|| format!("it printed {printed:?}"))?;
    let at = Duration::from_nanos(at_ns);
    ensure!(at > begin, "it printed a time before it was asked for");
    Ok(at.saturating_sub(begin))
}
