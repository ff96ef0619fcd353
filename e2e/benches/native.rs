//! Whether work in a container is as fast as on the host: the same program in both, in turn, pair by
//! pair; and how much a bridge carries from one container to the next, against dockerd's.
//!
//! A pair's ratio is the host's time by the container's: 1 is as fast, less is slower. Of the pairs the
//! median counts; the interval has it with 95 % (order statistics, no distribution assumed).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::figures::{self, Bar, line};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{Image, Socket, World, run};

const PAIRS: usize = 30;
const TRANSFERS: usize = 7;
const NATIVE: f64 = 0.98;
const SOURCE: &str = include_str!("../src/work.c");
const MEBIBYTES: f64 = 1024.0;
/// Sends so many MiB to address `$0` and prints the seconds before and after.
const SEND: &str = "read a rest < /proc/uptime; dd if=/dev/zero bs=64k count=16384 2>/dev/null | nc $0 5000; read b rest < /proc/uptime; echo $a $b";
/// Takes what comes, again and again. Its input never ends: at an end it would tell the other side to stop.
const TAKE: &str = "mkfifo /f; exec 3<>/f; while :; do nc -l -p 5000 <&3 > /dev/null; done";

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

/// Work that is done in both places; `None` has no bar.
struct Work {
    name: &'static str,
    arguments: &'static [&'static str],
    bar: Option<f64>,
}

const WORKS: [Work; 5] = [
    Work { name: "CPU", arguments: &["cpu"], bar: Some(NATIVE) },
    Work { name: "memory", arguments: &["memory"], bar: Some(NATIVE) },
    Work { name: "overlay, sequential write", arguments: &["write", "file"], bar: Some(NATIVE) },
    Work { name: "overlay, sequential read", arguments: &["read", "file"], bar: Some(NATIVE) },
    Work { name: "overlay, metadata", arguments: &["metadata", "."], bar: None },
];

/// The image with the program in it, and the program.
fn image(world: &World) -> Result<(String, PathBuf)> {
    let dir = world.dir().join("work");
    let root = dir.join("root");
    fs::create_dir_all(&dir).context("make the image's directory")?;
    let source = dir.join("work.c");
    fs::write(&source, SOURCE).context("write the program's source")?;
    program(Command::new("cp").arg("-a").arg(world.busybox_root()?).arg(&root))?;
    let path = root.join("work");
    program(Command::new("cc").args(["-static", "-O1", "-o"]).arg(&path).arg(&source))?;
    let image = Image::from_root(
        &dir,
        &root,
        &json!({ "Cmd": ["/work"], "Env": ["PATH=/bin"], "WorkingDir": "/data" }),
    )?;
    Ok((world.registry.borrow().push(&image, "library/work:1")?, path))
}

fn program(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn nanoseconds(printed: &str) -> Result<f64> {
    printed.trim().parse().with_context(|| format!("it printed {printed:?}"))
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    let (image, work) = image(world)?;
    // On the file system that the containers' writable layers are on.
    let host = world.state_dir().join("host");
    fs::create_dir_all(&host).context("make a directory of the host")?;
    let view = world.start(&tenant, &["sleep", "100000"], json!({ "image": image, "network": "none" }))?;
    figures::machine()?;
    let pairs = figures::rounds(PAIRS);
    line(&format!("  host's time by the container's, {pairs} pairs in turn"))?;
    let mut medians = Vec::new();
    for kind in &WORKS {
        let mut command = vec!["/work"];
        command.extend(kind.arguments);
        let outside = || nanoseconds(&program(Command::new(&work).args(kind.arguments).current_dir(&host))?);
        let inside = || nanoseconds(&Socket::output_of(world.api(), view.id.as_str(), &command)?);
        outside()?;
        inside()?;
        let mut ratios = Vec::new();
        for pair in 0..pairs {
            // Neither always has the other's caches behind it.
            let (outside, inside) = if pair % 2 == 0 {
                (outside()?, inside()?)
            } else {
                let inside = inside()?;
                (outside()?, inside)
            };
            ratios.push(outside / inside);
        }
        let (low, median, high) = figures::interval(&mut ratios);
        line(&format!("  {:<28} {median:.3} [{low:.3}, {high:.3}]", kind.name))?;
        medians.push((kind, format!("{}, {pairs} pairs [{low:.3}, {high:.3}]", kind.name), median));
    }
    for (kind, what, median) in medians {
        match kind.bar {
            Some(bar) => Bar::AtLeast(bar).judge(&what, median, " of the host's")?,
            None => figures::beside(&what, median, " of the host's")?,
        }
    }
    fs::remove_dir_all(&host).context("remove the host's directory")?;
    transfers(world)
}

/// Megabytes a second between two containers.
fn speed(printed: &str) -> Result<f64> {
    let times: Vec<f64> = printed.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [before, after] = times.as_slice() else { anyhow::bail!("it printed {printed:?}") };
    Ok(MEBIBYTES * 1.048_576 / (after - before))
}

fn transfers(world: &World) -> Result<()> {
    let tenant = world.tenant("wires")?;
    let server = world.start(&tenant, &["sh", "-c", TAKE], json!({}))?;
    let client = world.start(&tenant, &["sleep", "100000"], json!({}))?;
    let address = server.address.context("the server has an address")?;
    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    let peer = docker.run(&["run", "-d", "busybox", "sh", "-c", TAKE])?;
    let format = "{{.NetworkSettings.IPAddress}}";
    let peer_address = docker.run(&["inspect", "--format", format, peer.trim()])?;
    let peer_client = docker.run(&["run", "-d", "busybox", "sleep", "100000"])?;
    let ours = |from: &str, to: &str| speed(&Socket::output_of(world.api(), from, &["sh", "-c", SEND, to])?);
    let theirs =
        |from: &str, to: &str| speed(&docker.run(&["exec", from.trim(), "sh", "-c", SEND, to.trim()])?);
    let mut paths = [
        ("from container to container", (client.id.as_str(), address.as_str()), (peer_client, peer_address)),
        // The same programs without a bridge and its rules: what is left is the price of cgroups and filters.
        ("inside one container", (server.id.as_str(), "127.0.0.1"), (peer, "127.0.0.1".to_owned())),
    ]
    .map(|(what, own, other)| (what, own, other, Vec::new(), Vec::new()));
    for round in 0..=figures::rounds(TRANSFERS) {
        for (_, (from, to), (peer_from, peer_to), own, other) in &mut paths {
            let pair = (ours(from, to)?, theirs(peer_from, peer_to)?);
            // The first is to get warm.
            if round > 0 {
                own.push(pair.0);
                other.push(pair.1);
            }
        }
    }
    figures::with(&docker.version)?;
    let [bridge, inside] = paths.map(|(what, _, _, mut own, mut other)| {
        let ((own_low, own, own_high), (low, other, high)) =
            (figures::interval(&mut own), figures::interval(&mut other));
        let text = format!(
            "  {what}  {own:.0} MB/s [{own_low:.0}, {own_high:.0}], docker {other:.0} [{low:.0}, {high:.0}]"
        );
        (text, own / other)
    });
    line(&bridge.0)?;
    line(&inside.0)?;
    Bar::AtLeast(1.0).judge("bridge", bridge.1, " times docker's")?;
    figures::beside("the same without a bridge, inside one container", inside.1, " times docker's")
}
