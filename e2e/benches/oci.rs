//! A container that does nothing, from the start of the runtime to its end: `wharf oci run` against crun
//! and runc, with the same `config.json`.
//!
//! The configuration is what `runc spec` writes, without terminal and limits of resources, with a filter
//! of Docker's size and limits of memory, CPU time and processes. Ours puts an overlay on the root, which
//! the peers use as it is. crun of Debian 12 does not run where v1 hierarchies and a unified tree are
//! mounted side by side: it runs in a mount namespace without the unified one.
//!
//! Printed are the times that a caller waits, and beside them those until the last process of the runtime
//! has gone, and the CPU time of all of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::sys::wait::wait;
use serde_json::{Value, json};
use syscalls::Sysno;
use wharf_e2e::figures::{self, Bar, Samples, line, ratio};
use wharf_runtime::seccomp::{Policy, Verdict};

/// Of each contender, one after another in turn.
const ROUNDS: usize = 100;
/// Between two runs that are not back to back.
const IDLE_MS: u16 = 150;
/// First id on the host of the containers with ids of their own.
const HOST_BASE: u32 = 1_700_000_000;
/// Where the unified tree of a hybrid host is.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

fn main() -> Result<()> {
    if figures::wanted() { measure() } else { Ok(()) }
}

/// One runtime with one bundle.
struct Contender {
    name: &'static str,
    words: Vec<PathBuf>,
    bundle: PathBuf,
    /// Without the unified tree.
    legacy_only: bool,
    hot: Samples,
    idle: Samples,
    gone: Samples,
    cpu: Samples,
}

/// What one run took.
struct Taken {
    waited: Duration,
    gone: Duration,
    cpu: Duration,
}

impl Contender {
    fn new(name: &'static str, words: &[&Path], bundle: &Path) -> Self {
        Self {
            name,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            bundle: bundle.to_owned(),
            legacy_only: words.first().is_some_and(|program| program.ends_with("crun"))
                && Path::new(UNIFIED).is_dir(),
            hot: Samples::default(),
            idle: Samples::default(),
            gone: Samples::default(),
            cpu: Samples::default(),
        }
    }

    /// Runs once, in a thread of its own, because that is what a mount namespace belongs to.
    fn once(&self, dir: &Path) -> Result<Taken> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                if self.legacy_only {
                    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
                    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
                        .context("keep it private")?;
                    umount2(UNIFIED, MntFlags::MNT_DETACH).context("hide the unified tree")?;
                }
                self.run(dir)
            });
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn run(&self, dir: &Path) -> Result<Taken> {
        let (program, more) = self.words.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(more).arg("--root").arg(dir.join("state").join(self.name.replace(' ', "-")));
        command.args(["run", "--bundle"]).arg(&self.bundle).arg("bench");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let before = children_cpu()?;
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("start {}", self.name))?;
        let waited = begin.elapsed();
        ensure!(status.success(), "{} ended with {status}; run {command:?} by hand", self.name);
        // What it left behind is this process's child now.
        loop {
            match wait() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(errno).context("wait for what is left"),
            }
        }
        let gone = begin.elapsed();
        Ok(Taken { waited, gone, cpu: children_cpu()?.saturating_sub(before) })
    }

    fn measure(&mut self, dir: &Path, idle: bool) -> Result<()> {
        if idle {
            poll(&mut [], PollTimeout::from(IDLE_MS)).context("rest")?;
        }
        let taken = self.once(dir)?;
        if idle {
            self.idle.push(taken.waited);
        } else {
            self.hot.push(taken.waited);
            self.gone.push(taken.gone);
            self.cpu.push(taken.cpu);
        }
        Ok(())
    }

    fn print(&self) -> Result<()> {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let show = |samples: &Samples| {
            let (low, high) = samples.median_interval();
            format!("{:.2} [{:.2}, {:.2}]", ms(samples.median()), ms(low), ms(high))
        };
        let (hot, idle) = (show(&self.hot), show(&self.idle));
        let (gone, cpu) = (ms(self.gone.median()), ms(self.cpu.median()));
        line(&format!("  {:<34} {hot:>20} {idle:>20} {gone:>8.2} {cpu:>8.2}", self.name))
    }
}

/// CPU time of all children that were waited for.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for CPU times")?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

/// A directory with all bundles, and the groups of their containers, which go with it.
struct Place {
    dir: tempfile::TempDir,
    group: String,
}

impl Place {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp").context("make a directory")?;
        // Users of other namespaces go through here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).context("open the directory")?;
        let root = dir.path().join("rootfs");
        for part in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(root.join(part)).context("make the root")?;
        }
        fs::create_dir(dir.path().join("above")).context("make a place for layers")?;
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .context("copy busybox (package busybox-static)")?;
        symlink("busybox", root.join("bin/true")).context("link true")?;
        Ok(Self { dir, group: format!("wharf-bench-oci-{}", std::process::id()) })
    }

    /// Makes a bundle, with a filter or without, with ids of its own or the host's.
    fn bundle(&self, name: &str, mapped: bool) -> Result<PathBuf> {
        let bundle = self.dir.path().join(name);
        fs::create_dir(&bundle).context("make a bundle")?;
        let spec = Command::new("runc").arg("spec").current_dir(&bundle).status().context("run runc spec")?;
        ensure!(spec.success(), "runc spec ended with {spec}");
        let path = bundle.join("config.json");
        let text = fs::read_to_string(&path).context("read the configuration")?;
        let mut config: Value = serde_json::from_str(&text).context("understand the configuration")?;
        let process = config["process"].as_object_mut().context("a process")?;
        process.insert("args".to_owned(), json!(["/bin/true"]));
        process.insert("terminal".to_owned(), json!(false));
        process.remove("rlimits");
        let linux = config["linux"].as_object_mut().context("a linux part")?;
        linux.insert("cgroupsPath".to_owned(), json!(format!("/{}/{name}", self.group)));
        linux.insert("seccomp".to_owned(), filter());
        linux.insert(
            "resources".to_owned(),
            json!({
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": 256 << 20 },
                "cpu": { "quota": 100_000, "period": 100_000 },
                "pids": { "limit": 512 },
            }),
        );
        let namespaces = linux["namespaces"].as_array_mut().context("namespaces")?;
        if !namespaces.iter().any(|namespace| namespace["type"] == "cgroup") {
            namespaces.push(json!({ "type": "cgroup" }));
        }
        if mapped {
            namespaces.push(json!({ "type": "user" }));
            let mapping = json!([{ "containerID": 0, "hostID": HOST_BASE, "size": 65_536 }]);
            linux.insert("uidMappings".to_owned(), mapping.clone());
            linux.insert("gidMappings".to_owned(), mapping);
        }
        config["root"] = json!({ "path": self.dir.path().join("rootfs"), "readonly": false });
        // The peers do not know it.
        config["annotations"] = json!({ "org.wharfage.overlay": self.dir.path().join("above") });
        fs::write(&path, config.to_string()).context("write the configuration")?;
        Ok(bundle)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            let group = Path::new(point).join(&self.group);
            for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                drop(fs::remove_dir(entry.path()));
            }
            drop(fs::remove_dir(&group));
        }
    }
}

/// A profile that permits by name what the built-in one permits without a look at arguments, and the calls
/// that it looks at with a condition on one.
fn filter() -> Value {
    let policy = Policy::default_for(&[5, 10, 29]);
    let verdicts = |wanted: fn(Verdict) -> bool| -> Vec<&'static str> {
        let all = Sysno::iter();
        all.filter(|call| wanted(policy.verdict(call.id().unsigned_abs()))).map(|call| call.name()).collect()
    };
    let looked_at = verdicts(|verdict| matches!(verdict, Verdict::Check(_)));
    let mut rules = vec![json!({
        "names": verdicts(|verdict| verdict == Verdict::Allow), "action": "SCMP_ACT_ALLOW",
    })];
    rules.extend(looked_at.into_iter().map(|name| {
        let argument = json!({ "index": 0, "value": 40, "op": "SCMP_CMP_NE" });
        json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] })
    }));
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules })
}

fn measure() -> Result<()> {
    set_child_subreaper(true).context("adopt what runtimes leave")?;
    let place = Place::new()?;
    let dir = place.dir.path();
    let own = std::env::current_exe().context("find this program")?;
    let programs = own.ancestors().nth(2).context("find the build directory")?;
    let (wharf, shim) = (programs.join("wharf"), programs.join("wharf-shim"));
    for program in [&wharf, &shim] {
        ensure!(program.is_file(), "there is no {}: run cargo xtask bench oci", program.display());
    }
    let oci = Path::new("oci");
    let plain = place.bundle("plain", false)?;
    let mapped = place.bundle("mapped", true)?;
    let mut all = [
        Contender::new("wharf oci run", &[&wharf, oci], &plain),
        Contender::new("wharf-shim oci run", &[&shim, oci], &plain),
        Contender::new("wharf oci run, userns", &[&wharf, oci], &mapped),
        Contender::new("wharf-shim oci run, userns", &[&shim, oci], &mapped),
        Contender::new("crun run", &[Path::new("crun")], &plain),
        Contender::new("crun run, userns", &[Path::new("crun")], &mapped),
        Contender::new("runc run", &[Path::new("runc")], &plain),
    ];
    for contender in &all {
        contender.once(dir)?;
    }
    figures::machine()?;
    let rounds = figures::rounds(ROUNDS);
    for idle in [false, true] {
        for _round in 0..rounds {
            for contender in &mut all {
                contender.measure(dir, idle)?;
            }
        }
    }
    for program in ["crun", "runc"] {
        figures::with(&figures::version(program)?)?;
    }
    line(&format!(
        "  {:<34} {:>20} {:>20} {:>8} {:>8}",
        format!("{rounds} times /bin/true, in turn, in ms"),
        "hot [95 %]",
        format!("{IDLE_MS} ms idle [95 %]"),
        "all gone",
        "CPU"
    ))?;
    all.iter().try_for_each(Contender::print)?;
    let [wharf, shim, wharf_mapped, shim_mapped, crun, crun_mapped, runc] = &all;
    let times = |peer: &Samples, ours: &Samples| ratio(peer.median(), ours.median());
    for (ours, mapped) in [(wharf, wharf_mapped), (shim, shim_mapped)] {
        let against = |bar: f64, more: &str, theirs: &Samples, own: &Samples| {
            Bar::AtLeast(bar).judge(&format!("{}, {more}", ours.name), times(theirs, own), "×")
        };
        against(2.0, "hot, faster than crun", &crun.hot, &ours.hot)?;
        against(3.0, &format!("after {IDLE_MS} ms idle, faster than crun"), &crun.idle, &ours.idle)?;
        against(4.0, "hot, faster than runc", &runc.hot, &ours.hot)?;
        against(1.7, "userns, hot, faster than crun without", &crun.hot, &mapped.hot)?;
        let more = format!("{}, hot, faster than crun with userns", mapped.name);
        figures::beside(&more, times(&crun_mapped.hot, &mapped.hot), "×")?;
    }
    for contender in &all {
        figures::median_beside(&format!("{}, hot", contender.name), &contender.hot)?;
        figures::median_beside(&format!("{}, after {IDLE_MS} ms idle", contender.name), &contender.idle)?;
    }
    Ok(())
}
