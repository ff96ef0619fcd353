//! The one place of wiring, read top to bottom: configuration → services → bind → adopt → serve.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_runtime::cgroup::vacate;
use wharf_shared::id::HostId;
use wharf_shim::paths::RunRoot;
use wharf_store::Db;
use wharf_store::journal::Journal;

use crate::auth::{Auth, Passwords};
use crate::billing::Billing;
use crate::budgets::{self, Budgets};
use crate::checkpoints::{Archives, Checkpoints, Criu, Tools};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::containers::{Containers, Deps};
use crate::down::running_agent;
use crate::engine::{Engine, HostProfile};
use crate::events::EventBus;
use crate::execs::Execs;
use crate::host::{self, Host};
use crate::images::Images;
use crate::ledger::Ledger;
use crate::metering::{self, HostKey, Metering};
use crate::outbox::Outbox;
use crate::tasks::Tasks;
use crate::tenants::Tenants;
use crate::users::Users;
use crate::volumes::Volumes;
use crate::{api, networks, service, tls};

/// Tasks get so long to finish after a stop was asked for; a second signal cuts it short.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// A process that was just forked gets so long to call execve(2), and is looked at so often.
const BIRTH_WAIT: Duration = Duration::from_millis(20);
const BIRTH_WAITS: u32 = 500;

/// File in the run directory with the setup link, where it must not be printed.
pub(crate) const SETUP_LINK: &str = "setup-link";

/// Every service, for the API.
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) db: Db,
    pub(crate) events: EventBus,
    pub(crate) auth: Auth,
    pub(crate) users: Users,
    pub(crate) tenants: Tenants,
    pub(crate) billing: Billing,
    pub(crate) budgets: Budgets,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) containers: Containers,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) metering: Metering,
    pub(crate) ledger: Ledger,
    pub(crate) outbox: Outbox,
    pub(crate) networks: networks::Networks,
    pub(crate) execs: Execs,
    pub(crate) host: Host,
}

impl App {
    /// Opens stores and directories and makes every service; starts nothing.
    pub(crate) async fn build(
        config: Config,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> anyhow::Result<Arc<Self>> {
        let config = Arc::new(config);
        for dir in [&config.state_dir, &config.run_dir] {
            make_private(dir).with_context(|| format!("make the directory {}", dir.display()))?;
        }
        let db = Db::connect(&config.database_url()).await.context("open the store")?;
        let new_host: HostId = format!("hst_{}", uuid::Uuid::now_v7()).parse().context("make a host id")?;
        let journal = Journal::open(&config.state_dir.join("journal.db"), &new_host)
            .await
            .context("open the host's journal")?;
        let key = HostKey::load(&config.state_dir, journal.public_key().is_some())
            .context("load the key that signs the host's journal")?;
        journal.set_public_key(key.public()).await.context("sign the host's journal")?;
        let host_id = journal.host().clone();

        let events = EventBus::new(db.clone(), Arc::clone(&clock));
        let passwords = Passwords::new().context("prepare password hashing")?;
        let auth =
            Auth::new(&config.access, db.clone(), Arc::clone(&clock), events.clone(), passwords.clone());
        let users = Users::new(db.clone(), Arc::clone(&clock), events.clone(), passwords);
        let tenants = Tenants::new(&config, db.clone(), Arc::clone(&clock), events.clone())?;
        let billing =
            Billing::open(&config, &host_id, db.clone(), Arc::clone(&clock), events.clone()).await?;
        let images = Images::open(&config, db.clone(), Arc::clone(&clock), events.clone(), tasks.clone())?;
        let volumes = Volumes::new(&config.state_dir, db.clone(), Arc::clone(&clock), events.clone());

        wharf_shim::failpoint::arm(&RunRoot::new(&config.run_dir));
        let engine = Arc::new(
            Engine::new(
                config.cgroup_root(),
                &config.run_dir,
                &config.state_dir,
                shim(&config.shim)?,
                HostProfile::load(&config.instance),
            )
            .context("look at the host's cgroups")?,
        );
        vacate(engine.layout(), &config.cgroup_parent)
            .context("make room in the containers' control group")?;
        let network =
            wharf_network::Network::open(&wharf_network::NetworkConfig::new(config.instance.clone()))
                .context("prepare the network")?;
        let boot_id = boot_id().context("read the boot id")?;
        let metering = Metering::new(
            (journal, key),
            engine.layout().clone(),
            (Arc::clone(&clock), boot_id.clone()),
            network.traffic(),
            billing.pricer(),
            (!config.outbox.url.is_empty()).then_some(config.outbox.max_events),
        );
        let from = (host_id.clone(), boot_id.as_str());
        let outbox = Outbox::new(&config.outbox, from, db.clone(), Arc::clone(&clock), events.clone())?;
        let archives = Archives::new(&config.state_dir);
        let gate = budgets::Gate::default();
        let deps = Arc::new(Deps {
            config: Arc::clone(&config),
            clock: Arc::clone(&clock),
            tasks: tasks.clone(),
            db: db.clone(),
            events: events.clone(),
            engine: Arc::clone(&engine),
            images: images.clone(),
            volumes: volumes.clone(),
            network: Arc::new(network),
            metering: metering.clone(),
            budgets: gate.clone(),
            checkpoints: Tools {
                criu: Arc::new(Criu::new(&config.checkpoints.criu)),
                archives: archives.clone(),
            },
            actors: std::sync::Mutex::default(),
            names: crate::containers::Names::default(),
        });
        let containers = Containers::new(Arc::clone(&deps));
        let budgets = Budgets::new(
            (db.clone(), Arc::clone(&clock), events.clone()),
            Arc::clone(&config),
            (billing.clone(), metering.clone(), containers.clone()),
            (gate, tasks.clone()),
            host::capacity(),
            &boot_id,
        )?;
        let host = Host::new(host_id, Arc::clone(&config), engine, containers.clone(), &clock);
        let ledger = Ledger::new(metering.clone(), db.clone(), events.clone());
        Ok(Arc::new(Self {
            networks: networks::Networks::new(deps),
            execs: Execs::new(Arc::clone(&clock)),
            config,
            clock,
            tasks,
            db,
            events,
            auth,
            users,
            tenants,
            billing,
            budgets,
            images,
            volumes,
            checkpoints: Checkpoints::new(containers.clone(), archives),
            containers,
            ledger,
            metering,
            outbox,
            host,
        }))
    }
}

/// Runs the agent until it is told to stop. Containers go on without it.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let clock = SystemClock::shared();
    let tls = tls::load(&config).context("prepare TLS")?;
    let run_dir = config.run_dir.clone();
    make_private(&run_dir).with_context(|| format!("make the directory {}", run_dir.display()))?;
    let _only_one = lock(&run_dir).await?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("listen on {}; if another program has the port, give another with --listen", config.listen)
    })?;
    let address = listener.local_addr().context("ask for the address")?;
    let app = App::build(config, clock, tasks.clone()).await?;

    app.metering.host_started().await?;
    app.containers.sweep().await?;
    app.metering.close_lost(&app.db).await?;
    app.volumes.recover().await?;
    app.checkpoints.recover().await?;
    app.budgets.recover().await?;
    let booted = is_new_boot(&app.config.run_dir).context("compare boots")?;
    app.containers.recover(booted).await?;
    app.containers.guard_network();
    app.containers.tell_names();
    app.containers.warm_up().await;
    app.events.retain(app.config.retention, &tasks);
    metering::roll_up(&app.metering, app.db.clone(), &tasks);
    app.outbox.run(&tasks);
    app.budgets.run();
    let millis = |millis: u32| Duration::from_millis(u64::from(millis.max(100)));
    let intervals = &app.config.metering;
    app.metering.run(&tasks, millis(intervals.live_interval_ms), millis(intervals.journal_interval_ms));

    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(identity) = &tls {
        crate::say(&format!("certificate fingerprint: sha256:{}", identity.fingerprint));
    }
    let link = app.auth.setup_secret().await?;
    let link = link.map(|secret| format!("{scheme}://{address}/setup#{}", secret.reveal()));
    offer_setup(&run_dir, link.as_deref()).context("offer the setup link")?;
    crate::say(&format!("listening: {scheme}://{address}"));
    service::ready();

    let stopper = tasks.clone();
    let mut signals = Signals::new()?;
    tasks.spawn("signals", crate::tasks::OnEnd::Fine, async move {
        signals.next().await;
        tracing::info!("stopping; containers go on");
        stopper.stopping().cancel();
    });
    let stopped = async {
        api::serve(Arc::clone(&app), listener, tls.map(|identity| identity.config)).await;
        tasks.stop(STOP_GRACE).await;
        app.metering.host_stopped().await;
        app.db.close().await;
        Ok(())
    };
    let stopping = tasks.stopping();
    let cut_short = async {
        stopping.cancelled().await;
        Signals::new()?.next().await;
        Ok(())
    };
    // What is not finished is found and finished by the next agent, as after a power cut.
    tokio::select! {
        stopped = stopped => stopped,
        cut_short = cut_short => {
            tracing::warn!("stopping at once");
            cut_short
        }
    }
}

/// What asks the agent to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Those that come from now on.
    fn new() -> anyhow::Result<Self> {
        let open = |kind| signal(kind).context("wait for signals");
        Ok(Self { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    /// Whichever comes first; the other is no different.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Shows the setup link to who started us: by a file that root alone can read where many read what we print.
fn offer_setup(run_dir: &Path, link: Option<&str>) -> std::io::Result<()> {
    let file = run_dir.join(SETUP_LINK);
    match link {
        Some(link) if service::prints_to_journal() => {
            let mut open = File::options();
            open.write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file)?
                .write_all(link.as_bytes())?;
            crate::say(&format!("setup link: root can read it in {}", file.display()));
        }
        Some(link) => crate::say(&format!("setup link: {link}")),
        // It was used.
        None => match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        },
    }
    Ok(())
}

/// The supervisor's executable: the one that is set, or the one beside ours.
pub(crate) fn shim(set: &Path) -> anyhow::Result<std::path::PathBuf> {
    let shim = if set.as_os_str().is_empty() {
        std::env::current_exe().context("find our own executable")?.with_file_name("wharf-shim")
    } else {
        set.to_owned()
    };
    anyhow::ensure!(
        shim.is_file(),
        "there is no supervisor at {}; set `shim` to where it is",
        shim.display()
    );
    Ok(shim)
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Names this process in the run directory, and holds the name as long as the agent lives.
async fn lock(run_dir: &Path) -> anyhow::Result<Flock<File>> {
    let path = run_dir.join(crate::down::PID_FILE);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
    let mut waits = 0;
    let mut file = loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => break file,
            // Killed while it started a program, which has all of its descriptors until it calls execve(2).
            Err((file, nix::errno::Errno::EWOULDBLOCK))
                if waits < BIRTH_WAITS && running_agent(run_dir)?.is_none() =>
            {
                file
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => anyhow::bail!(
                "another agent of this instance runs; stop it first, or give this one a name of its own with \
                 --instance (its process is in {})",
                path.display()
            ),
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("lock {}", path.display()));
            }
        };
        waits += 1;
        tokio::time::sleep(BIRTH_WAIT).await;
    };
    file.set_len(0)?;
    let own = wharf_shim::process_ref::ProcessRef::current()?;
    file.write_all(serde_json::to_string(&own)?.as_bytes())?;
    Ok(file)
}

pub(crate) fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Whether the machine was started since the agent last ran here.
fn is_new_boot(run_dir: &Path) -> std::io::Result<bool> {
    let marker = run_dir.join("boot_id");
    let boot = boot_id()?;
    match std::fs::read_to_string(&marker) {
        Ok(seen) if seen == boot => Ok(false),
        _ => std::fs::write(marker, boot).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use wharf_shim::process_ref::ProcessRef;

    use super::*;

    /// A run directory that someone holds in the name of this process.
    fn held_for(pid: i32) -> (tempfile::TempDir, Flock<File>) {
        let dir = tempfile::tempdir().expect("a directory");
        let name = serde_json::to_string(&ProcessRef::of(pid).expect("it is there")).expect("written");
        std::fs::write(dir.path().join(crate::down::PID_FILE), name).expect("written");
        let file = File::open(dir.path().join(crate::down::PID_FILE)).expect("opened");
        (dir, Flock::lock(file, FlockArg::LockExclusive).expect("nobody has it"))
    }

    #[tokio::test]
    async fn what_a_killed_agent_left_unborn_is_waited_for() {
        let mut agent = Command::new("cat").stdin(Stdio::piped()).spawn().expect("started");
        let (dir, unborn) = held_for(i32::try_from(agent.id()).expect("a pid"));
        agent.kill().expect("killed");
        agent.wait().expect("reaped");
        let (locked, ()) = tokio::join!(lock(dir.path()), async {
            tokio::time::sleep(BIRTH_WAIT * 3).await;
            drop(unborn);
        });
        locked.expect("it is free by then");
        assert_eq!(running_agent(dir.path()).expect("read"), Some(ProcessRef::current().expect("this")));
    }

    #[tokio::test]
    async fn an_agent_that_lives_is_not_waited_for() {
        let (dir, _held) = held_for(i32::try_from(std::process::id()).expect("a pid"));
        let refused = lock(dir.path()).await.expect_err("it has the name").to_string();
        assert!(refused.contains("another agent"), "{refused}");
    }
}
