//! `wharfd install` and `wharfd uninstall`: the agent as a service of this machine, and back.
//!
//! What is put where is decided by [`Paths`] and the texts beside this file; all else here carries it out. Two
//! units: the agent's, and one that only holds the control group of the containers ([`CONTAINERS_UNIT`]), so that
//! systemd neither ends containers with the agent nor tidies up among them. Where systemd is not installed, the
//! programs and settings are all there is, and how to start the agent is said.
//!
//! Sources: systemd.service(5), systemd.kill(5), systemd.resource-control(5), `CGROUP_DELEGATION.md` of systemd.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use wharf_runtime::cgroup::Layout;

use crate::config::{Config, ConfigArgs, DEFAULT_FILE};
use crate::engine::sweep::children;
use crate::{app, down, say};

/// What is copied into the directory of programs.
const PROGRAMS: [&str; 3] = ["wharfd", "wharf-shim", "wharf"];
/// The agent.
const AGENT_UNIT: &str = "wharfd.service";
/// The containers' control group.
const CONTAINERS_UNIT: &str = "wharf-containers.service";
/// Where that group is, below the root of each hierarchy; [`CONTAINERS_UNIT`] says in which slice.
const CGROUP_PARENT: &str = "wharf.slice/wharf-containers.service";
/// The first part of that.
const SLICE: &str = "wharf.slice";
const AGENT_TEXT: &str = include_str!("install/wharfd.service");
const CONTAINERS_TEXT: &str = include_str!("install/wharf-containers.service");
const SETTINGS_TEXT: &str = include_str!("install/wharfd.toml");
/// Where an administrator's units are.
const UNITS: &str = "etc/systemd/system";
/// Is there while systemd is the init system (`sd_booted(3)`).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Where things go.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InstallArgs {
    /// Programs go into DIR/bin
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put all below this directory instead of / and start nothing, as for a package or an image
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// The files of an installation.
#[derive(Debug)]
struct Paths {
    root: PathBuf,
    programs: PathBuf,
    /// The same, as the units name it.
    bin: String,
    units: PathBuf,
    settings: PathBuf,
}

impl Paths {
    fn new(arguments: &InstallArgs) -> Result<Self> {
        let prefix = arguments.prefix.to_str().unwrap_or_default();
        // A unit file gives meaning to blanks, quotes, `%` and `$`.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
        ensure!(
            prefix.starts_with('/') && prefix.bytes().all(plain),
            "--prefix {}: write an absolute path of letters, digits and . _ + -",
            arguments.prefix.display()
        );
        let root = arguments.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let bin = format!("{}/bin", prefix.trim_end_matches('/'));
        Ok(Self {
            programs: root.join(bin.trim_start_matches('/')),
            bin,
            units: root.join(UNITS),
            settings: root.join(DEFAULT_FILE.trim_start_matches('/')),
            root,
        })
    }

    fn units(&self) -> [(PathBuf, String); 2] {
        [(AGENT_UNIT, AGENT_TEXT), (CONTAINERS_UNIT, CONTAINERS_TEXT)]
            .map(|(name, text)| (self.units.join(name), text.replace("@BIN@", &self.bin)))
    }
}

/// Puts programs, settings and units into their places, and starts the agent where systemd runs.
pub(crate) fn install(given: &ConfigArgs, arguments: &InstallArgs) -> Result<()> {
    ensure!(
        given.is_empty(),
        "a service takes its settings from {DEFAULT_FILE}; write them there, before or after this"
    );
    let paths = Paths::new(arguments)?;
    let staged = arguments.root.is_some();
    // Also where it is installed and does not run, as in a container that becomes an image.
    let has_units = staged || paths.units.is_dir();
    let before = fs::read_to_string(&paths.settings).ok();
    let settings = settings(before.as_deref(), has_units)?;
    let after: Config = Config::parse(&settings).context("use the settings that are there")?;
    if !staged {
        let old = Config::parse(before.as_deref().unwrap_or_default())?;
        refuse_what_runs(&old, &after)?;
    }

    let own = std::env::current_exe().context("find our own executable")?;
    let shim = app::shim(Path::new(""))?;
    for (name, from) in PROGRAMS.into_iter().zip([own.clone(), shim, own.with_file_name("wharf")]) {
        if name == "wharf" && !from.is_file() {
            say(&format!("there is no command line at {}; install it yourself", from.display()));
            continue;
        }
        copy_program(&from, &paths.programs.join(name))?;
    }
    if before.as_ref() != Some(&settings) {
        write(&paths.settings, &settings, 0o600)?;
    }
    if has_units {
        for (path, text) in paths.units() {
            write(&path, &text, 0o644)?;
        }
    }
    say(&format!("installed into {}", paths.programs.display()));
    if staged {
        return Ok(());
    }
    if !Path::new(SYSTEMD_RUNS).is_dir() {
        say(&format!(
            "systemd does not run here: let your init system run `{}/wharfd serve` as root and restart it when it \
             fails; it needs no other process and stays in the foreground, SIGTERM ends it, and containers go on",
            paths.bin
        ));
        return Ok(());
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", AGENT_UNIT])?;
    // Also when it runs: the programs are new, perhaps.
    systemctl(&["restart", AGENT_UNIT])?;
    say(&format!("{AGENT_UNIT} runs; `journalctl -u wharfd` shows its log, {DEFAULT_FILE} has its settings"));
    if let Ok(link) = fs::read_to_string(after.run_dir.join(app::SETUP_LINK)) {
        say(&format!("setup link: {}", link.trim()));
    }
    Ok(())
}

/// Takes away what [`install`] made; containers end, and with `purge` all state goes too.
pub(crate) fn uninstall(
    given: &ConfigArgs,
    arguments: &InstallArgs,
    purge: bool,
    down: impl FnOnce(&Config) -> Result<()>,
) -> Result<()> {
    ensure!(given.is_empty(), "a service takes its settings from {DEFAULT_FILE}, and no flags");
    let paths = Paths::new(arguments)?;
    let staged = arguments.root.is_some();
    let systemd_runs = !staged && Path::new(SYSTEMD_RUNS).is_dir();
    let has = |unit: &str| paths.units.join(unit).exists();
    if systemd_runs && has(AGENT_UNIT) {
        systemctl(&["disable", "--now", AGENT_UNIT])?;
    }
    let settings = fs::read_to_string(&paths.settings).ok();
    if !staged {
        down(&Config::parse(settings.as_deref().unwrap_or_default())?)?;
    }
    if systemd_runs && has(CONTAINERS_UNIT) {
        // The slice stands for it alone, and would stay until the next boot.
        systemctl(&["stop", CONTAINERS_UNIT, SLICE])?;
    }
    for (path, _) in paths.units() {
        remove(&path)?;
    }
    if systemd_runs {
        systemctl(&["daemon-reload"])?;
    }
    for name in PROGRAMS {
        remove(&paths.programs.join(name))?;
    }
    let unchanged = [true, false].iter().any(|units| settings == self::settings(None, *units).ok());
    if purge || unchanged {
        remove(&paths.settings)?;
        // Whatever else somebody put beside it stays.
        if let Some(dir) = paths.settings.parent() {
            fs::remove_dir(dir).ok();
        }
    } else if settings.is_some() {
        say(&format!("{} was changed and stays", paths.settings.display()));
    }
    say(&format!("removed from {}", paths.root.join(paths.bin.trim_start_matches('/')).display()));
    Ok(())
}

/// The settings file: what is there, with the containers' group where systemd hands it over.
fn settings(before: Option<&str>, has_units: bool) -> Result<String> {
    let text = before.unwrap_or(SETTINGS_TEXT);
    let table: toml::Table = toml::from_str(text).with_context(|| format!("read {DEFAULT_FILE}"))?;
    if !has_units || table.contains_key("cgroup_parent") {
        return Ok(text.to_owned());
    }
    let line = format!(
        "# The control group of {CONTAINERS_UNIT}, by `wharfd install`.\ncgroup_parent = \"{CGROUP_PARENT}\"\n"
    );
    // Below somebody's text it would belong to the last section.
    Ok(if before.is_some() { format!("{line}\n{text}") } else { format!("{text}{line}") })
}

/// Two agents of one name cannot run, and containers cannot be moved from one group to another.
fn refuse_what_runs(old: &Config, new: &Config) -> Result<()> {
    let by_systemd = Path::new(SYSTEMD_RUNS).is_dir()
        && Command::new("systemctl")
            .args(["is-active", "--quiet", AGENT_UNIT])
            .status()
            .is_ok_and(|s| s.success());
    if let Some(agent) = down::running_agent(&new.run_dir)?
        && !by_systemd
    {
        bail!("an agent runs already (pid {}); end it first, and install again", agent.pid);
    }
    let (old, new) = (old.cgroup_root(), new.cgroup_root());
    let layout = Layout::detect().context("look at the host's cgroups")?;
    if old != new && children(&layout, &old).iter().any(|tenant| !children(&layout, tenant).is_empty()) {
        bail!(
            "containers run in the control group {}, and the service's are in {}; end them first with `wharfd down`",
            old.display(),
            new.display()
        );
    }
    Ok(())
}

/// Replaces a program in one step: the one that is there may run.
fn copy_program(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("copy {} to {}", from.display(), to.display());
    let same = |path: &Path| path.canonicalize().ok();
    if same(from).is_some() && same(from) == same(to) {
        return Ok(());
    }
    let mut source = File::open(from).with_context(what)?;
    replace(to, 0o755, |file| std::io::copy(&mut source, file).map(drop)).with_context(what)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    replace(path, mode, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    fill(&mut file)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let status = Command::new("systemctl").args(arguments).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("run systemctl {}", arguments.join(" ")))?;
    ensure!(
        status.success(),
        "systemctl {} failed ({status}); `journalctl -u wharfd` says more",
        arguments.join(" ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(root: &Path, prefix: &str) -> InstallArgs {
        InstallArgs { prefix: prefix.into(), root: Some(root.to_owned()) }
    }

    #[test]
    fn units_name_the_programs_where_they_will_be() {
        let paths = Paths::new(&arguments(Path::new("/stage"), "/opt/wharf/")).expect("paths");
        assert_eq!(paths.programs, Path::new("/stage/opt/wharf/bin"));
        let [(agent, text), (containers, group)] = paths.units();
        assert_eq!(agent, Path::new("/stage/etc/systemd/system/wharfd.service"));
        assert_eq!(containers, Path::new("/stage/etc/systemd/system/wharf-containers.service"));
        assert!(text.contains("\nExecStart=/opt/wharf/bin/wharfd serve\n"), "{text}");
        assert!(!text.contains('@') && !group.contains('@'), "{text}{group}");
        for bad in ["opt", "/op t", "/opt%n", "/opt\"", "/opt$x"] {
            assert!(Paths::new(&arguments(Path::new("/stage"), bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_restart_of_the_agent_leaves_its_containers_alone() {
        let has = |text: &str, line: &str| text.lines().any(|other| other == line);
        assert!(has(AGENT_TEXT, "KillMode=process") && !AGENT_TEXT.contains("\nDelegate="), "{AGENT_TEXT}");
        assert!(has(CONTAINERS_TEXT, "Delegate=yes") && has(CONTAINERS_TEXT, "OOMPolicy=continue"));
        let (slice, unit) = CGROUP_PARENT.split_once('/').expect("a slice and a unit");
        assert!(slice == SLICE && has(CONTAINERS_TEXT, &format!("Slice={slice}")));
        assert_eq!(unit, CONTAINERS_UNIT);
        // What systemd would give to supervisors and containers too.
        for sandbox in
            ["\nProtect", "\nPrivate", "\nSystemCall", "\nNoNewPrivileges", "\nUMask", "\nCapability"]
        {
            assert!(!AGENT_TEXT.contains(sandbox), "{sandbox}");
        }
    }

    #[test]
    fn settings_that_are_there_stay_and_get_the_group_at_their_top() {
        let theirs = "listen = \"127.0.0.1:9000\"\n[log]\nformat = \"json\"\n";
        let text = settings(Some(theirs), true).expect("settings");
        assert!(text.ends_with(theirs), "{text}");
        let config = Config::parse(&text).expect("acceptable");
        assert_eq!(config.cgroup_root(), Path::new(CGROUP_PARENT).join("wharf"));
        assert_eq!(config.listen.port(), 9000);
        assert_eq!(settings(Some(&text), true).expect("settings"), text, "once is enough");
        assert_eq!(settings(Some(theirs), false).expect("settings"), theirs);
        assert!(settings(Some("listen ="), true).is_err());
        assert!(Config::parse(&settings(None, true).expect("settings")).is_ok());
    }

    #[test]
    fn what_is_staged_is_gone_after_an_uninstall_but_for_changed_settings() {
        let root = tempfile::tempdir().expect("a directory");
        let arguments = arguments(root.path(), "/usr/local");
        let paths = Paths::new(&arguments).expect("paths");
        let stage = || {
            for name in PROGRAMS {
                copy_program(&std::env::current_exe().expect("this test"), &paths.programs.join(name))
                    .expect("copied");
            }
            for (path, text) in paths.units() {
                write(&path, &text, 0o644).expect("written");
            }
        };
        let files = || {
            let mut left = Vec::new();
            let mut dirs = vec![root.path().to_owned()];
            while let Some(dir) = dirs.pop() {
                for entry in fs::read_dir(dir).expect("listed") {
                    let path = entry.expect("an entry").path();
                    if path.is_dir() { dirs.push(path) } else { left.push(path) }
                }
            }
            left
        };
        let never = |_: &Config| -> Result<()> { bail!("nothing runs below a root") };
        let none = ConfigArgs::default();

        stage();
        write(&paths.settings, &settings(None, true).expect("settings"), 0o600).expect("written");
        let mode = fs::metadata(paths.programs.join("wharfd")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        uninstall(&none, &arguments, false, never).expect("uninstalled");
        assert_eq!(files(), [] as [PathBuf; 0]);

        stage();
        write(&paths.settings, "listen = \"127.0.0.1:9000\"\n", 0o600).expect("written");
        uninstall(&none, &arguments, false, never).expect("uninstalled");
        assert_eq!(files(), std::slice::from_ref(&paths.settings));
        uninstall(&none, &arguments, true, never).expect("purged, and nothing else is there any more");
        assert_eq!(files(), [] as [PathBuf; 0]);
    }
}
