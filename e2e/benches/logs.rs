//! The log's path: bytes a second from a container's standard output to the file, and back through
//! the API, against dockerd's json-file and `docker logs`.
//!
//! Both copy the same lines from a file of the host. Written: from the start to the known end of the
//! container, when everything is in the log. Read: the whole log as text.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wharf_e2e::figures::{self, Bar, Samples, line};
use wharf_e2e::peers::Dockerd;
use wharf_e2e::{World, run};
use wharf_shared::container::{ContainerView, ExitView};
use wharf_shared::tenant::TenantView;

const ROUNDS: usize = 5;
/// At least so many times as fast as dockerd, both ways.
const TIMES_DOCKER: f64 = 5.0;
const LINE: &str = "2026-01-01 12:00:00 INFO request served method=GET path=/api/v1/containers status=200 duration_ms=12 bytes=34567\n";
const BYTES: usize = 64 * 1024 * 1024;

fn main() -> Result<()> {
    if figures::wanted() { run(measure) } else { Ok(()) }
}

/// How long writing and reading took.
#[derive(Default)]
struct Path {
    written: Samples,
    read: Samples,
}

impl Path {
    fn print(&self, name: &str, bytes: usize) -> Result<()> {
        let (written, read) = (speed(bytes, self.written.median()), speed(bytes, self.read.median()));
        line(&format!("  {name:<20} written {written:>8.1} MB/s, read {read:>8.1} MB/s"))
    }
}

/// Megabytes a second.
fn speed(bytes: usize, duration: Duration) -> f64 {
    let megabytes = u32::try_from(bytes / 1000).map_or(f64::MAX, f64::from) / 1000.0;
    megabytes / duration.as_secs_f64()
}

fn measure(world: &World) -> Result<()> {
    let tenant = world.tenant("bench")?;
    let text = LINE.repeat(BYTES / LINE.len());
    let file = world.dir().join("lines");
    fs::write(&file, &text).context("write the lines")?;
    let bytes = text.len();
    drop(text);
    let docker = Dockerd::start(world).context("start dockerd (package docker.io)")?;
    figures::machine()?;
    let (mut ours, mut theirs) = (Path::default(), Path::default());
    for _round in 0..figures::rounds(ROUNDS) {
        our_round(world, &tenant, &file.display().to_string(), bytes, &mut ours)?;
        docker_round(&docker, &file.display().to_string(), bytes, &mut theirs)?;
    }
    figures::with(&docker.version)?;
    line(&format!("  {} MiB of lines of {} bytes", bytes >> 20, LINE.len()))?;
    ours.print("ours", bytes)?;
    theirs.print("dockerd, json-file", bytes)?;
    let times = |ours: &Samples, theirs: &Samples| figures::ratio(theirs.median(), ours.median());
    Bar::AtLeast(TIMES_DOCKER).judge("written", times(&ours.written, &theirs.written), " times as fast")?;
    Bar::AtLeast(TIMES_DOCKER).judge("read back", times(&ours.read, &theirs.read), " times as fast")
}

fn our_round(world: &World, tenant: &TenantView, file: &str, bytes: usize, path: &mut Path) -> Result<()> {
    let more = json!({
        "network": "none",
        "volumes": [{ "source": { "host": file }, "target": "/lines", "read_only": true }],
        "log": { "max_file_bytes": 1_u64 << 30, "max_files": 2 },
    });
    let spec = world.spec(tenant, &["cat", "/lines"], more)?;
    let api = world.api();
    let view: ContainerView = api.post("/containers", &spec)?;
    let container = format!("/containers/{}", view.id);
    let begin = Instant::now();
    api.act(&format!("{container}/start"), &Value::Null)?;
    let exit: ExitView = api.get(&format!("{container}/wait"))?;
    path.written.push(begin.elapsed());
    ensure!(exit.code == Some(0), "it ended with {exit:?}");
    let begin = Instant::now();
    let log = api.text(&format!("{container}/logs"))?;
    path.read.push(begin.elapsed());
    ensure!(log.len() == bytes, "{} bytes of {bytes} are in the log", log.len());
    api.delete(&container)
}

fn docker_round(docker: &Dockerd, file: &str, bytes: usize, path: &mut Path) -> Result<()> {
    let mount = format!("{file}:/lines:ro");
    let id = docker.run(&["create", "--network", "none", "-v", &mount, "busybox", "cat", "/lines"])?;
    let id = id.trim();
    let begin = Instant::now();
    docker.run(&["start", id])?;
    let code = docker.run(&["wait", id])?;
    path.written.push(begin.elapsed());
    ensure!(code.trim() == "0", "it ended with {code}");
    let begin = Instant::now();
    let mut reader =
        docker.client().args(["logs", id]).stdout(Stdio::piped()).spawn().context("run docker logs")?;
    let mut log = Vec::new();
    reader.stdout.take().context("its output")?.read_to_end(&mut log).context("read docker logs")?;
    ensure!(reader.wait().context("wait for docker logs")?.success(), "docker logs failed");
    path.read.push(begin.elapsed());
    ensure!(log.len() == bytes, "{} bytes of {bytes} are in docker's log", log.len());
    docker.run(&["rm", id]).map(drop)
}
