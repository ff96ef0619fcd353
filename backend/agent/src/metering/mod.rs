//! Metering: one reading of the kernel's counters feeds live views, Prometheus and the journal.
//!
//! Descriptors stay open per container; a tick reads them all. A reading is written to the journal
//! when a container starts and ends, when its limits change or it is paused, and every interval. A
//! series moves on only when its reading is durable: while the journal cannot be written, only the
//! newest reading of each is kept, nothing starts, and the next one that is stored counts from the
//! last that was. Live views do not wait for the journal.
//!
//! `memory.stat`, the costliest file, is read every 10 s, and for every reading that a change of the
//! container causes. No meter comes from it, only the working set that live views and Prometheus show:
//! in between that is the memory charged now less the inactive file pages of up to 10 s ago. A container
//! of which nothing has run since the tick before changes nothing of its own: until it runs again, only
//! its CPU time, block I/O and network are read, and everything every 10 s and whenever the journal gets
//! a reading.

mod history;
mod ledger;
mod rates;
mod rollup;
mod schedule;
mod series;
mod tail;
mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use history::History;
pub(crate) use ledger::HostKey;
use ledger::Mind;
pub(crate) use rollup::roll_up;
use schedule::{Turn, turn};
use series::Series;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore, broadcast};
pub(crate) use traffic::Look;
use wharf_network::{Traffic, TrafficReader};
use wharf_runtime::cgroup::Layout;
use wharf_runtime::usage::{Depth, Strain, UsageError, UsageReader};
pub(crate) use wharf_runtime::usage::{Measured, Reading};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::live::MetricsPoint;
use wharf_shared::problem::ProblemKind;
use wharf_shared::reading::{ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;
use wharf_shim::exit::ExitRecord;
use wharf_store::journal::Journal;

use crate::clock::Clock;
use crate::error::{Result, ServiceError, chain};
use crate::tasks::{OnEnd, Tasks};

/// Ticks that a slow live view may lag behind before it misses some; it shows the latest anyway.
const LIVE_BACKLOG: usize = 8;
/// Every so many live points one is kept.
const HISTORY_EVERY: u64 = 5;
/// A tick waits so long for readings that are being written; if they are not done, it only shows.
const ORDER_PATIENCE: Duration = Duration::from_millis(300);

/// So often at least everything of a container is read, and always when its reading is to be written.
const FULL_INTERVAL: Duration = Duration::from_secs(10);
/// So often what a container suffers is read even if nothing of it has run.
const STRAIN_INTERVAL: Duration = Duration::from_mins(1);

/// Name in a final reading's source of the first process's CPU time.
const INIT_CPU_US: &str = "init_cpu_us";
/// Name in a reading's source of the address whose traffic is counted.
const ADDRESS: &str = "address";

/// Says what an hour at a point's rate and with this traffic, in bytes a second, costs, and in which currency.
pub(crate) type Pricer =
    dyn Fn(&MetricsPoint, ReadingLimits, &[(Meter, u64)]) -> (Decimal, String) + Send + Sync;

/// What a container does: what its price follows from.
#[derive(Debug, Clone)]
pub(crate) struct Doing {
    pub(crate) point: MetricsPoint,
    pub(crate) limits: ReadingLimits,
    /// Bytes a second.
    pub(crate) traffic: Vec<(Meter, u64)>,
}

/// Why a reading is taken besides start, end and the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Freeze,
    Thaw,
}

/// What a supervisor saw of the end of a start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) reading: Reading,
    /// CPU time of the first process by wait4(2): kept beside the counters as their witness.
    pub(crate) init_cpu_us: Option<u64>,
}

impl End {
    /// The record of an earlier boot has the clock of that boot, as the series has.
    pub(crate) fn of(record: &ExitRecord) -> Self {
        Self { reading: record.reading, init_cpu_us: record.init_cpu_us }
    }

    fn records(
        &self,
        series: &mut Series,
        traffic: std::result::Result<Traffic, Measured>,
    ) -> Vec<ReadingRecord> {
        let mut records = series.advance(ReadingKind::Final, &Look { reading: self.reading, traffic });
        if let (Some(last), Some(time)) = (records.last_mut(), self.init_cpu_us) {
            last.source.insert(INIT_CPU_US.to_owned(), time.to_string());
        }
        records
    }
}

/// A start whose first reading is durable, and whose network is not made yet.
pub(crate) struct Opened {
    reader: UsageReader,
    series: Series,
    look: Look,
}

/// One start of a container, as it is to be metered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) generation: u64,
    pub(crate) tenant: &'a TenantId,
    pub(crate) cgroup: &'a Path,
    /// Its own address, whose traffic is counted. The host's network is nobody's use.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) limits: ReadingLimits,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Metering(Arc<Inner>);

struct Inner {
    journal: Journal,
    key: HostKey,
    mind: Mutex<Mind>,
    layout: Layout,
    clock: Arc<dyn Clock>,
    boot_id: String,
    traffic: Arc<TrafficReader>,
    pricer: Box<Pricer>,
    /// Most events of usage that wait to be sent; none are made when absent.
    events_max: Option<u64>,
    targets: Mutex<HashMap<ContainerId, Arc<Target>>>,
    /// Each tenant's whole cgroup: the truth that its containers' sum is compared with.
    tenants: AsyncMutex<HashMap<TenantId, Whole>>,
    /// Held from taking a reading until it is durable, so that readings of a series keep their order.
    /// Taken before `tenants`.
    writing: Arc<AsyncMutex<()>>,
    /// Places of ended starts whose writes are waited for.
    lingering: Semaphore,
    /// The last readings could not be stored.
    failing: AtomicBool,
    live: broadcast::Sender<Arc<Vec<MetricsPoint>>>,
}

struct Target {
    id: ContainerId,
    generation: u64,
    reader: UsageReader,
    address: Option<Ipv4Addr>,
    state: Mutex<TargetState>,
}

struct TargetState {
    series: Series,
    /// When it was last written.
    turn: Option<Turn>,
    /// When it was last read in full for a tick, and what it suffers.
    full: Option<Turn>,
    strained: Option<Turn>,
    look: Look,
    /// As of the last full reading.
    strain: Strain,
    /// Of the tick before that of `look`.
    before: Option<Look>,
    history: History,
    /// Its last reading, until it is durable; no other is taken any more.
    ended: Option<(End, std::result::Result<Traffic, Measured>)>,
}

/// A tenant's whole cgroup.
struct Whole {
    reader: UsageReader,
    series: Series,
    turn: Option<Turn>,
}

impl Inner {
    /// What a container does, by its last two readings, and what that costs.
    fn point(&self, id: &ContainerId, state: &TargetState) -> Option<MetricsPoint> {
        let limits = state.series.limits();
        let before = state.before.as_ref()?;
        let mut point = rates::point(id, before, &state.look, &state.strain, limits.memory_bytes);
        let traffic = rates::traffic(before, &state.look);
        (point.cost_per_hour, point.currency) = (self.pricer)(&point, limits, &traffic);
        Some(point)
    }
}

impl Inner {
    /// All that can be seen of a container now.
    fn look_at(&self, target: &Target, depth: Depth) -> Look {
        Look { reading: target.reader.read(depth), traffic: traffic::of(&self.traffic, target.address) }
    }

    /// The traffic of all of these that have an address, read at once.
    fn traffic_of(&self, targets: &[Arc<Target>]) -> HashMap<Ipv4Addr, Traffic> {
        if targets.iter().all(|target| target.address.is_none()) {
            return HashMap::new();
        }
        // Each that is missing is asked for alone, and says why it cannot be read.
        self.traffic.all().unwrap_or_default()
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, TargetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metering {
    pub(crate) fn new(
        (journal, key): (Journal, HostKey),
        layout: Layout,
        (clock, boot_id): (Arc<dyn Clock>, String),
        traffic: Arc<TrafficReader>,
        pricer: Box<Pricer>,
        events_max: Option<u64>,
    ) -> Self {
        let (live, _) = broadcast::channel(LIVE_BACKLOG);
        Self(Arc::new(Inner {
            journal,
            key,
            mind: Mutex::default(),
            layout,
            clock,
            boot_id,
            traffic,
            pricer,
            events_max,
            targets: Mutex::default(),
            tenants: AsyncMutex::default(),
            writing: Arc::default(),
            lingering: Semaphore::new(tail::LINGERING_MAX),
            failing: AtomicBool::new(false),
            live,
        }))
    }

    pub(crate) fn host(&self) -> &HostId {
        self.0.journal.host()
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Target>>> {
        self.0.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, id: &ContainerId) -> Option<Arc<Target>> {
        self.targets().get(id).cloned()
    }

    async fn reader(&self, cgroup: &Path) -> Result<UsageReader> {
        let (layout, cgroup) = (self.0.layout.clone(), cgroup.to_owned());
        tokio::task::spawn_blocking(move || UsageReader::open(&layout, &cgroup))
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
            .map_err(|error: UsageError| {
                ServiceError::internal("the container's counters cannot be opened", error)
            })
    }

    async fn append(&self, records: &[ReadingRecord]) -> Result<()> {
        self.sign_if_due(false).await?;
        self.0.journal.append_batch(records).await?;
        Ok(())
    }

    /// Readings of a host that a test has not.
    #[cfg(test)]
    pub(crate) async fn append_as_read(&self, records: &[ReadingRecord]) -> Result<()> {
        self.append(records).await
    }

    /// For readings that no later one makes up for.
    async fn append_last(&self, records: &[ReadingRecord]) -> Result<()> {
        self.sign_if_due(true).await?;
        self.0.journal.append_last(records).await?;
        Ok(())
    }

    /// Waits until no reading is being written.
    async fn order(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.0.writing).lock_owned().await
    }

    fn key(&self, tenant: &TenantId, container: Option<(&ContainerId, u64)>) -> SeriesKey {
        SeriesKey {
            boot_id: self.0.boot_id.clone(),
            tenant: Some(tenant.clone()),
            container: container.map(|(id, _)| id.clone()),
            incarnation: container.map_or(0, |(_, generation)| generation),
        }
    }

    /// Meters the tenant's whole cgroup too, the parent of this one, from its first container on.
    async fn open_tenant(&self, tenant: &TenantId, cgroup: &Path) -> Result<()> {
        let _order = self.order().await;
        let mut tenants = self.0.tenants.lock().await;
        let Some(whole) = cgroup.parent() else { return Ok(()) };
        if tenants.contains_key(tenant) {
            return Ok(());
        }
        let reader = self.reader(whole).await?;
        let key = self.key(tenant, None);
        let look = Look::from(reader.read(Depth::Full));
        let (series, records) = if let Some((_, last)) = self.0.journal.last_of_series(&key).await? {
            let mut series = Series::resume(&last);
            let records = series.advance(ReadingKind::Adopt, &look);
            (series, records)
        } else {
            let (series, record) = Series::open(key, ReadingLimits::default(), source(whole, None), &look);
            (series, vec![record])
        };
        self.append(&records).await?;
        tenants.insert(tenant.clone(), Whole { reader, series, turn: None });
        Ok(())
    }

    /// Stops metering a tenant that has no container any more, before its cgroup is removed.
    pub(crate) async fn close_tenant(&self, tenant: &TenantId) -> Result<()> {
        let _order = self.order().await;
        let mut tenants = self.0.tenants.lock().await;
        let Some(whole) = tenants.get(tenant) else { return Ok(()) };
        let look = whole.reader.read(Depth::Full).into();
        let records = whole.series.clone().advance(ReadingKind::Final, &look);
        self.append_last(&records).await?;
        tenants.remove(tenant);
        Ok(())
    }

    /// Nothing starts unless the end of what runs can still be written down.
    async fn require_room(&self) -> Result<()> {
        let _order = self.order().await;
        if self.0.journal.has_room().await {
            return Ok(());
        }
        Err(ServiceError::new(
            ProblemKind::InsufficientStorage,
            "the disk is full, and what room is left is kept for the containers that run; free some space",
        ))
    }

    /// Takes the first reading of a container whose cgroup was made, and makes it durable. What is in it may
    /// still be made, and a network that is not made yet has counted nothing.
    pub(crate) async fn open(&self, run: Run<'_>) -> Result<Opened> {
        self.require_room().await?;
        self.open_tenant(run.tenant, run.cgroup).await?;
        let reader = self.reader(run.cgroup).await?;
        let _order = self.order().await;
        let traffic = run.address.map(|_| Traffic::default()).ok_or(Measured::NotMeasurable);
        let look = Look { reading: reader.read(Depth::Full), traffic };
        let key = self.key(run.tenant, Some((run.id, run.generation)));
        let (series, record) = Series::open(key, run.limits, source(run.cgroup, run.address), &look);
        self.append(&[record]).await?;
        Ok(Opened { reader, series, look })
    }

    /// Meters on, now that its network is made.
    pub(crate) fn watch(&self, run: Run<'_>, opened: Opened) {
        let Opened { reader, series, look } = opened;
        self.insert(run, reader, series, &look);
    }

    /// Goes on metering a container that an earlier agent started.
    pub(crate) async fn adopt(&self, run: Run<'_>) -> Result<()> {
        let Some((_, last)) = self.0.journal.last_reading(run.id, run.generation).await? else {
            let opened = self.open(run).await?;
            self.watch(run, opened);
            return Ok(());
        };
        // A store that does not answer now is no reason to lose its traffic.
        let run = Run { address: run.address.or_else(|| address_of(&last)), ..run };
        self.open_tenant(run.tenant, run.cgroup).await?;
        let reader = self.reader(run.cgroup).await?;
        let _order = self.order().await;
        let mut series = Series::resume(&last);
        let look =
            Look { reading: reader.read(Depth::Full), traffic: traffic::of(&self.0.traffic, run.address) };
        let records = series.advance(ReadingKind::Adopt, &look);
        self.append(&records).await?;
        series.set_limits(run.limits);
        self.insert(run, reader, series, &look);
        Ok(())
    }

    fn insert(&self, run: Run<'_>, reader: UsageReader, series: Series, look: &Look) {
        let state = TargetState {
            series,
            turn: None,
            full: None,
            strained: None,
            look: *look,
            strain: reader.strain(true),
            before: None,
            history: History::default(),
            ended: None,
        };
        let Run { id, generation, address, .. } = run;
        let target = Target { id: id.clone(), generation, reader, address, state: Mutex::new(state) };
        self.targets().insert(id.clone(), Arc::new(target));
    }

    /// Takes one reading now and makes it durable.
    async fn take(&self, target: &Target, kind: ReadingKind) -> Result<()> {
        let _order = self.order().await;
        let mut series = target.state().series.clone();
        let records = series.advance(kind, &self.0.look_at(target, Depth::Full));
        self.append(&records).await?;
        target.state().series = series;
        Ok(())
    }

    /// Takes a reading because the container was frozen or is about to be thawed.
    pub(crate) async fn mark(&self, id: &ContainerId, mark: Mark) -> Result<()> {
        let kind = match mark {
            Mark::Freeze => ReadingKind::Freeze,
            Mark::Thaw => ReadingKind::Thaw,
        };
        match self.target(id) {
            Some(target) => self.take(&target, kind).await,
            None => Ok(()),
        }
    }

    /// From now on other limits hold.
    pub(crate) async fn set_limits(&self, id: &ContainerId, limits: ReadingLimits) -> Result<()> {
        let Some(target) = self.target(id) else { return Ok(()) };
        self.take(&target, ReadingKind::Config).await?;
        target.state().series.set_limits(limits);
        Ok(())
    }

    /// Books the last reading of a start; `end` is the supervisor's, if it left one. When this
    /// returns, it is durable and the cgroup may go. Booking twice changes nothing; after a failure it
    /// is to be tried again, and the first reading is the one that counts.
    pub(crate) async fn close(&self, id: &ContainerId, generation: u64, end: Option<&End>) -> Result<()> {
        let _order = self.order().await;
        if let Some(target) = self.target(id).filter(|target| target.generation == generation) {
            let (mut series, (end, traffic)) = {
                let mut state = target.state();
                let look = || End { reading: target.reader.read(Depth::Full), init_cpu_us: None };
                let end = *state.ended.get_or_insert_with(|| {
                    (end.copied().unwrap_or_else(look), traffic::of(&self.0.traffic, target.address))
                });
                (state.series.clone(), end)
            };
            self.append_last(&end.records(&mut series, traffic)).await?;
            self.targets().remove(id);
            return Ok(());
        }
        let Some((_, last)) = self.0.journal.last_reading(id, generation).await? else { return Ok(()) };
        if last.kind.is_end() {
            return Ok(());
        }
        let mut series = Series::resume(&last);
        let seen = match end {
            Some(end) => Some(*end),
            None => self.last_look(&last).await,
        };
        let address = address_of(&last);
        let records = match seen {
            // What counted its traffic went with the boot.
            Some(end) if last.series.boot_id != self.0.boot_id => {
                let gone = Measured::Unreadable(nix::errno::Errno::ENOENT as i32);
                end.records(&mut series, Err(address.map_or(Measured::NotMeasurable, |_| gone)))
            }
            Some(end) => end.records(&mut series, traffic::of(&self.0.traffic, address)),
            // Nobody saw the end and the counters are gone: what is unknown is not billed.
            None => vec![series.gap(self.0.clock.now())],
        };
        self.append_last(&records).await
    }

    /// Whether a start was metered and its last reading is not durable yet.
    pub(crate) async fn is_open(&self, id: &ContainerId, generation: u64) -> Result<bool> {
        let last = self.0.journal.last_reading(id, generation).await?;
        Ok(last.is_some_and(|(_, last)| !last.kind.is_end()))
    }

    /// Reads the cgroup of a start whose supervisor left nothing, if it is still there.
    async fn last_look(&self, last: &ReadingRecord) -> Option<End> {
        if last.series.boot_id != self.0.boot_id {
            return None;
        }
        let cgroup = last.source.get("cgroup")?;
        let reader = self.reader(Path::new(cgroup)).await.ok()?;
        Some(End { reading: reader.read(Depth::Full), init_cpu_us: None })
    }

    // ---- live ----

    /// Points of every container, once a tick.
    pub(crate) fn live(&self) -> broadcast::Receiver<Arc<Vec<MetricsPoint>>> {
        self.0.live.subscribe()
    }

    pub(crate) fn latest(&self, id: &ContainerId) -> Option<MetricsPoint> {
        let target = self.target(id)?;
        self.0.point(&target.id, &target.state())
    }

    /// What a container does now; `None` before its second reading.
    pub(crate) fn doing(&self, id: &ContainerId) -> Option<Doing> {
        let target = self.target(id)?;
        let state = target.state();
        let point = self.0.point(&target.id, &state)?;
        let traffic = rates::traffic(state.before.as_ref()?, &state.look);
        Some(Doing { point, limits: state.series.limits(), traffic })
    }

    /// The last readings of all, for Prometheus.
    pub(crate) fn readings(&self) -> Vec<(ContainerId, Look)> {
        let targets: Vec<Arc<Target>> = self.targets().values().cloned().collect();
        targets.iter().map(|target| (target.id.clone(), target.state().look)).collect()
    }

    pub(crate) fn history(&self, id: &ContainerId) -> Vec<MetricsPoint> {
        self.target(id).map(|target| target.state().history.points(id)).unwrap_or_default()
    }

    /// Meters until the agent stops.
    pub(crate) fn run(&self, tasks: &Tasks, live_interval: Duration, journal_interval: Duration) {
        let (metering, stop, writers) = (self.clone(), tasks.stopping(), tasks.clone());
        tasks.spawn("metering", OnEnd::Shutdown, async move {
            let mut ticks = 0_u64;
            loop {
                let pause = metering.until_next(live_interval);
                // Dropping the sleep loses nothing.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => break,
                }
                ticks += 1;
                // What is not written at this tick is due at the next.
                let order = tokio::time::timeout(ORDER_PATIENCE, metering.order()).await.ok();
                if order.is_some()
                    && let Err(error) = metering.look_at_clock().await
                    && !metering.0.failing.swap(true, Ordering::Relaxed)
                {
                    tracing::error!(error = chain(&error), "the ledger is not signed; it is tried again");
                }
                let interval = Some(journal_interval);
                match metering.look(ticks.is_multiple_of(HISTORY_EVERY), interval).await {
                    Ok((now, readings)) => {
                        let Some(order) = order else { continue };
                        let metering = metering.clone();
                        writers.spawn("write readings", OnEnd::Fine, async move {
                            metering.write_due(order, now, readings, interval).await;
                        });
                    }
                    Err(error) => tracing::error!(error = chain(&error), "counters were not read"),
                }
            }
            let order = metering.order().await;
            match metering.look(false, None).await {
                Ok((now, readings)) => metering.write_due(order, now, readings, None).await,
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "the last readings before the stop were not taken"
                    );
                }
            }
        });
    }

    /// Ticks fall on whole multiples of the interval in UTC, so that one falls on each full hour.
    fn until_next(&self, interval: Duration) -> Duration {
        let now = u64::try_from(self.0.clock.now().0).unwrap_or(0);
        let interval = u64::try_from(interval.as_micros()).unwrap_or(1_000_000).max(1);
        Duration::from_micros(interval - now % interval)
    }

    /// Reads every container once, in full if it is to be written with this interval (`None`: now), and
    /// shows it to whoever watches.
    async fn look(
        &self,
        keep: bool,
        interval: Option<Duration>,
    ) -> Result<(Timestamp, Vec<(Arc<Target>, Look)>)> {
        let targets: Vec<Arc<Target>> = self.targets().values().cloned().collect();
        let inner = Arc::clone(&self.0);
        let now = inner.clock.now();
        let watched = inner.live.receiver_count() > 0;
        let (readings, points) = tokio::task::spawn_blocking(move || {
            let mut traffic = inner.traffic_of(&targets);
            let mut readings = Vec::with_capacity(targets.len());
            let mut points = Vec::with_capacity(targets.len());
            for target in targets {
                let turn = |interval| Some(turn(target.id.as_str(), now, interval));
                let (full, strained) = (turn(FULL_INTERVAL), turn(STRAIN_INTERVAL));
                let (depth, anew) = match &*target.state() {
                    state if state.ended.is_some() => continue,
                    state if state.full == full && interval.is_some_and(|each| state.turn == turn(each)) => {
                        (Depth::Changed, false)
                    }
                    state => (Depth::Full, state.strained != strained),
                };
                let reading = target.reader.read(depth);
                let found = target.address.and_then(|address| traffic.remove(&address));
                let traffic = found.map_or_else(|| traffic::of(&inner.traffic, target.address), Ok);
                let look = Look { reading, traffic };
                let strain = (depth == Depth::Full).then(|| target.reader.strain(anew));
                let mut state = target.state();
                (state.full, state.strained) = (full, strained);
                state.strain = strain.unwrap_or(state.strain);
                state.before = Some(std::mem::replace(&mut state.look, look));
                // It is not made for nobody: whoever asks later has it made from these two readings.
                if let Some(point) = (keep || watched).then(|| inner.point(&target.id, &state)).flatten() {
                    if keep {
                        state.history.push(&point);
                    }
                    points.push(point);
                }
                drop(state);
                readings.push((target, look));
            }
            (readings, points)
        })
        .await
        .map_err(|error| ServiceError::internal("a worker thread panicked", error))?;
        if watched {
            // Who watched may have gone: fine.
            drop(self.0.live.send(Arc::new(points)));
        }
        Ok((now, readings))
    }

    /// Writes the readings whose turn it is; all of them without an interval. `order` was taken before
    /// they were read, which was `now`.
    async fn write_due(
        &self,
        order: OwnedMutexGuard<()>,
        now: Timestamp,
        readings: Vec<(Arc<Target>, Look)>,
        interval: Option<Duration>,
    ) {
        let due = |id: &str, last: Option<Turn>| {
            let turn = interval.map(|interval| turn(id, now, interval));
            (turn.is_none() || turn != last).then_some(turn)
        };
        let mut records = Vec::new();
        let mut moved = Vec::new();
        for (target, look) in &readings {
            let state = target.state();
            // One that was closed in the meantime has its final reading already.
            let goes_on = || state.ended.is_none() && self.targets().contains_key(&target.id);
            if let Some(turn) = due(target.id.as_str(), state.turn).filter(|_| goes_on()) {
                let mut series = state.series.clone();
                records.extend(series.advance(ReadingKind::Periodic, look));
                moved.push((target, series, turn));
            }
        }
        let mut tenants = self.0.tenants.lock().await;
        let mut wholes = Vec::new();
        for (id, whole) in tenants.iter_mut() {
            if let Some(turn) = due(id.as_str(), whole.turn) {
                let mut series = whole.series.clone();
                records.extend(series.advance(ReadingKind::Periodic, &whole.reader.read(Depth::Live).into()));
                wholes.push((whole, series, turn));
            }
        }
        if records.is_empty() {
            return;
        }
        // What is left of the room is for readings that cannot be taken again.
        let stored = if interval.is_none() {
            self.append_last(&records).await
        } else if self.0.journal.has_room().await {
            self.append(&records).await
        } else {
            Err(ServiceError::new(ProblemKind::InsufficientStorage, "the disk is full; free some space"))
        };
        match stored {
            Ok(()) => {
                for (target, series, turn) in moved {
                    let mut state = target.state();
                    (state.series, state.turn) = (series, turn);
                }
                for (whole, series, turn) in wholes {
                    (whole.series, whole.turn) = (series, turn);
                }
                if self.0.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("readings are stored again; nothing was lost");
                }
            }
            Err(error) if !self.0.failing.swap(true, Ordering::Relaxed) => tracing::error!(
                error = chain(&error),
                "readings are not stored; what is stored next counts from the last that was"
            ),
            Err(error) => tracing::debug!(error = chain(&error), "readings are still not stored"),
        }
        drop(order);
    }
}

/// The address whose traffic a series counts, as its records have it.
fn address_of(last: &ReadingRecord) -> Option<Ipv4Addr> {
    last.source.get(ADDRESS)?.parse().ok()
}

fn source(cgroup: &Path, address: Option<Ipv4Addr>) -> BTreeMap<String, String> {
    let cgroup = ("cgroup".to_owned(), cgroup.display().to_string());
    let address = address.map(|address| (ADDRESS.to_owned(), address.to_string()));
    std::iter::once(cgroup).chain(address).collect()
}
