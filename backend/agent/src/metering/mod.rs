//! Metering: one reading of the kernel's counters feeds live views, Prometheus and the journal.
//!
//! Descriptors stay open per container; a tick reads them all. A reading is written to the journal
//! when a container starts and ends, when its limits change or it is paused, and every interval. A
//! series moves on only when its reading is durable: if the journal cannot be written, the next
//! reading counts from the last one that was.

mod rates;
mod rollup;
mod series;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use rollup::roll_up;
use series::Series;
use tokio::sync::{Mutex as AsyncMutex, Notify, broadcast};
use wharf_runtime::cgroup::Layout;
pub(crate) use wharf_runtime::usage::{Counters, Measured, Reading};
use wharf_runtime::usage::{UsageError, UsageReader};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::{ContainerId, HostId, TenantId};
use wharf_shared::live::MetricsPoint;
use wharf_shared::reading::{ReadingKind, ReadingLimits, ReadingRecord, SeriesKey};
use wharf_store::journal::Journal;

use crate::clock::Clock;
use crate::error::{Result, ServiceError, chain};
use crate::tasks::{OnEnd, Tasks};

/// Ticks that a slow live view may lag behind before it misses some; it shows the latest anyway.
const LIVE_BACKLOG: usize = 8;
/// Every so many live points one is kept.
const HISTORY_EVERY: u64 = 5;
/// So many are kept: 15 minutes at one in 5 s.
const HISTORY_POINTS: usize = 180;

/// Says what an hour at a point's rate costs, and in which currency.
pub(crate) type Pricer = dyn Fn(&MetricsPoint, ReadingLimits) -> (Decimal, String) + Send + Sync;

/// Why a reading is taken besides start, end and the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Freeze,
    Thaw,
}

/// One start of a container, as it is to be metered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) id: &'a ContainerId,
    pub(crate) generation: u64,
    pub(crate) tenant: &'a TenantId,
    pub(crate) cgroup: &'a Path,
    /// Its first process, whose network namespace is counted.
    pub(crate) pid: i32,
    pub(crate) limits: ReadingLimits,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Metering(Arc<Inner>);

struct Inner {
    journal: Journal,
    layout: Layout,
    clock: Arc<dyn Clock>,
    boot_id: String,
    pricer: Box<Pricer>,
    targets: Mutex<HashMap<ContainerId, Arc<Target>>>,
    /// Each tenant's whole cgroup: the truth that its containers' sum is compared with.
    tenants: AsyncMutex<HashMap<TenantId, (UsageReader, Series)>>,
    /// Held from taking a reading until it is durable, so that readings of a series keep their order.
    writing: AsyncMutex<()>,
    live: broadcast::Sender<Arc<Vec<MetricsPoint>>>,
    appended: Notify,
}

struct Target {
    id: ContainerId,
    generation: u64,
    reader: UsageReader,
    state: Mutex<TargetState>,
}

struct TargetState {
    series: Series,
    latest: Option<(Reading, MetricsPoint)>,
    history: VecDeque<MetricsPoint>,
}

impl Target {
    fn state(&self) -> MutexGuard<'_, TargetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metering {
    pub(crate) fn new(
        journal: Journal,
        layout: Layout,
        clock: Arc<dyn Clock>,
        boot_id: String,
        pricer: Box<Pricer>,
    ) -> Self {
        let (live, _) = broadcast::channel(LIVE_BACKLOG);
        Self(Arc::new(Inner {
            journal,
            layout,
            clock,
            boot_id,
            pricer,
            targets: Mutex::default(),
            tenants: AsyncMutex::default(),
            writing: AsyncMutex::new(()),
            live,
            appended: Notify::new(),
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

    async fn reader(&self, cgroup: &Path, pid: Option<i32>) -> Result<UsageReader> {
        let (layout, cgroup) = (self.0.layout.clone(), cgroup.to_owned());
        tokio::task::spawn_blocking(move || UsageReader::open(&layout, &cgroup, pid))
            .await
            .map_err(|error| ServiceError::internal("a worker thread panicked", error))?
            .map_err(|error: UsageError| {
                ServiceError::internal("the container's counters cannot be opened", error)
            })
    }

    async fn append(&self, records: &[ReadingRecord]) -> Result<()> {
        self.0.journal.append_batch(records).await?;
        self.0.appended.notify_one();
        Ok(())
    }

    /// Meters the tenant's whole cgroup too, the parent of this one, from its first container on.
    async fn open_tenant(&self, tenant: &TenantId, cgroup: &Path) -> Result<()> {
        let mut tenants = self.0.tenants.lock().await;
        let Some(whole) = cgroup.parent() else { return Ok(()) };
        if tenants.contains_key(tenant) {
            return Ok(());
        }
        let reader = self.reader(whole, None).await?;
        let key = SeriesKey {
            boot_id: self.0.boot_id.clone(),
            tenant: Some(tenant.clone()),
            container: None,
            incarnation: 0,
        };
        let _order = self.0.writing.lock().await;
        let reading = reader.read(true);
        let (series, record) = match self.0.journal.last_of_series(&key).await? {
            Some((_, last)) => {
                let mut series = Series::resume(&last);
                let record = series.advance(ReadingKind::Adopt, &reading);
                (series, record)
            }
            None => Series::open(key, ReadingLimits::default(), source(whole), &reading),
        };
        self.append(&[record]).await?;
        tenants.insert(tenant.clone(), (reader, series));
        Ok(())
    }

    /// Stops metering a tenant that has no container any more, before its cgroup is removed.
    pub(crate) async fn close_tenant(&self, tenant: &TenantId) -> Result<()> {
        let mut tenants = self.0.tenants.lock().await;
        let Some((reader, series)) = tenants.get(tenant) else { return Ok(()) };
        let _order = self.0.writing.lock().await;
        let record = series.clone().advance(ReadingKind::Periodic, &reader.read(true));
        self.append(&[record]).await?;
        tenants.remove(tenant);
        Ok(())
    }

    /// Begins to meter a container that was built and does not run yet.
    pub(crate) async fn open(&self, run: Run<'_>) -> Result<()> {
        let Run { id, generation, tenant, cgroup, pid, limits } = run;
        self.open_tenant(tenant, cgroup).await?;
        let reader = self.reader(cgroup, Some(pid)).await?;
        let key = SeriesKey {
            boot_id: self.0.boot_id.clone(),
            tenant: Some(tenant.clone()),
            container: Some(id.clone()),
            incarnation: generation,
        };
        let _order = self.0.writing.lock().await;
        let (series, record) = Series::open(key, limits, source(cgroup), &reader.read(true));
        self.append(&[record]).await?;
        self.insert(id, generation, reader, series);
        Ok(())
    }

    /// Goes on metering a container that an earlier agent started.
    pub(crate) async fn adopt(&self, run: Run<'_>) -> Result<()> {
        let Run { id, generation, tenant, cgroup, pid, limits } = run;
        let Some((_, last)) = self.0.journal.last_reading(id, generation).await? else {
            return self.open(run).await;
        };
        self.open_tenant(tenant, cgroup).await?;
        let reader = self.reader(cgroup, Some(pid)).await?;
        let _order = self.0.writing.lock().await;
        let mut series = Series::resume(&last);
        let record = series.advance(ReadingKind::Adopt, &reader.read(true));
        self.append(&[record]).await?;
        series.set_limits(limits);
        self.insert(id, generation, reader, series);
        Ok(())
    }

    fn insert(&self, id: &ContainerId, generation: u64, reader: UsageReader, series: Series) {
        let state = Mutex::new(TargetState { series, latest: None, history: VecDeque::new() });
        let target = Target { id: id.clone(), generation, reader, state };
        self.targets().insert(id.clone(), Arc::new(target));
    }

    /// Takes one reading now and makes it durable.
    async fn take(&self, target: &Target, kind: ReadingKind, reading: Option<&Reading>) -> Result<()> {
        let _order = self.0.writing.lock().await;
        let mut series = target.state().series.clone();
        let record = match reading {
            Some(reading) => series.advance(kind, reading),
            None => series.advance(kind, &target.reader.read(true)),
        };
        self.append(&[record]).await?;
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
            Some(target) => self.take(&target, kind, None).await,
            None => Ok(()),
        }
    }

    /// From now on other limits hold.
    pub(crate) async fn set_limits(&self, id: &ContainerId, limits: ReadingLimits) -> Result<()> {
        let Some(target) = self.target(id) else { return Ok(()) };
        self.take(&target, ReadingKind::Config, None).await?;
        target.state().series.set_limits(limits);
        Ok(())
    }

    /// Books the last reading of a start; `reading` is the supervisor's, if it left one. When this
    /// returns, it is durable and the cgroup may go. Booking twice changes nothing.
    pub(crate) async fn close(
        &self,
        id: &ContainerId,
        generation: u64,
        reading: Option<&Reading>,
    ) -> Result<()> {
        if let Some(target) = self.target(id).filter(|target| target.generation == generation) {
            self.take(&target, ReadingKind::Final, reading).await?;
            self.targets().remove(id);
            return Ok(());
        }
        let Some((_, last)) = self.0.journal.last_reading(id, generation).await? else { return Ok(()) };
        if matches!(last.kind, ReadingKind::Final | ReadingKind::Gap) {
            return Ok(());
        }
        let _order = self.0.writing.lock().await;
        let mut series = Series::resume(&last);
        let record = match reading {
            Some(reading) => series.advance(ReadingKind::Final, reading),
            None => match self.last_look(&last).await {
                Some(reading) => series.advance(ReadingKind::Final, &reading),
                // Nobody saw the end and the counters are gone: what is unknown is not billed.
                None => series.advance(ReadingKind::Gap, &self.unknown()),
            },
        };
        self.append(&[record]).await
    }

    /// Reads the cgroup of a start whose supervisor left nothing, if it is still there.
    async fn last_look(&self, last: &ReadingRecord) -> Option<Reading> {
        if last.series.boot_id != self.0.boot_id {
            return None;
        }
        let cgroup = last.source.get("cgroup")?;
        let reader = self.reader(Path::new(cgroup), None).await.ok()?;
        Some(reader.read(true))
    }

    fn unknown(&self) -> Reading {
        let unreadable = Measured::Unreadable(nix::libc::ENOENT);
        Reading {
            boot_ns: self.0.clock.boot_ns(),
            realtime_us: self.0.clock.now().0,
            counters: series::all(unreadable),
        }
    }

    // ---- live ----

    /// Points of every container, once a tick.
    pub(crate) fn live(&self) -> broadcast::Receiver<Arc<Vec<MetricsPoint>>> {
        self.0.live.subscribe()
    }

    pub(crate) fn latest(&self, id: &ContainerId) -> Option<MetricsPoint> {
        self.target(id)?.state().latest.as_ref().map(|(_, point)| point.clone())
    }

    /// The last readings of all, for Prometheus.
    pub(crate) fn readings(&self) -> Vec<(ContainerId, Reading)> {
        let targets: Vec<Arc<Target>> = self.targets().values().cloned().collect();
        targets
            .iter()
            .filter_map(|target| {
                target.state().latest.as_ref().map(|(reading, _)| (target.id.clone(), *reading))
            })
            .collect()
    }

    pub(crate) fn history(&self, id: &ContainerId) -> Vec<MetricsPoint> {
        self.target(id).map(|target| target.state().history.iter().cloned().collect()).unwrap_or_default()
    }

    /// Meters until the agent stops.
    pub(crate) fn run(&self, tasks: &Tasks, live_interval: Duration, journal_interval: Duration) {
        let (metering, stop) = (self.clone(), tasks.stopping());
        tasks.spawn("metering", OnEnd::Shutdown, async move {
            let mut ticks = 0_u64;
            let mut slot = 0;
            loop {
                let pause = metering.until_next(live_interval);
                // Dropping the sleep loses nothing.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => break,
                }
                ticks += 1;
                let now_slot = metering.slot(journal_interval);
                let due = now_slot != slot;
                match metering.tick(ticks.is_multiple_of(HISTORY_EVERY), due).await {
                    Ok(()) if due => slot = now_slot,
                    Ok(()) => {}
                    Err(error) => tracing::error!(
                        error = chain(&error),
                        "readings were not stored; the next ones count from the last stored"
                    ),
                }
            }
            if let Err(error) = metering.tick(false, true).await {
                tracing::error!(error = chain(&error), "the last readings before the stop were not stored");
            }
        });
    }

    /// Ticks fall on whole multiples of the interval in UTC, so that one falls on each full hour.
    fn until_next(&self, interval: Duration) -> Duration {
        let now = u64::try_from(self.0.clock.now().0).unwrap_or(0);
        let interval = u64::try_from(interval.as_micros()).unwrap_or(1_000_000).max(1);
        Duration::from_micros(interval - now % interval)
    }

    fn slot(&self, interval: Duration) -> i64 {
        self.0.clock.now().0 / i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1)
    }

    /// Reads everything once.
    async fn tick(&self, keep: bool, journal: bool) -> Result<()> {
        let targets: Vec<Arc<Target>> = self.targets().values().cloned().collect();
        let mut tenants = if journal { Some(self.0.tenants.lock().await) } else { None };
        let order = if journal { Some(self.0.writing.lock().await) } else { None };
        let inner = Arc::clone(&self.0);
        let (targets, readings, points) = tokio::task::spawn_blocking(move || {
            let readings: Vec<Reading> = targets.iter().map(|target| target.reader.read(true)).collect();
            let mut points = Vec::with_capacity(targets.len());
            for (target, reading) in targets.iter().zip(&readings) {
                let mut state = target.state();
                let limits = state.series.limits();
                let before = state.latest.as_ref().map(|(reading, _)| reading);
                let mut point = rates::point(&target.id, before, reading, limits.memory_bytes);
                (point.cost_per_hour, point.currency) = (inner.pricer)(&point, limits);
                if keep {
                    state.history.push_back(point.clone());
                    let surplus = state.history.len().saturating_sub(HISTORY_POINTS);
                    state.history.drain(..surplus);
                }
                state.latest = Some((*reading, point.clone()));
                points.push(point);
            }
            (targets, readings, points)
        })
        .await
        .map_err(|error| ServiceError::internal("a worker thread panicked", error))?;
        // Nobody watches: fine.
        drop(self.0.live.send(Arc::new(points)));
        if order.is_some() {
            let mut moved = Vec::with_capacity(targets.len());
            let mut records = Vec::with_capacity(targets.len());
            for (target, reading) in targets.iter().zip(&readings) {
                // One that was closed in the meantime has its final reading already.
                let current = self.target(&target.id);
                if current.is_some_and(|current| Arc::ptr_eq(&current, target)) {
                    let mut series = target.state().series.clone();
                    records.push(series.advance(ReadingKind::Periodic, reading));
                    moved.push((target, series));
                }
            }
            let mut wholes: Vec<(&mut Series, Series)> = Vec::new();
            for (reader, whole) in tenants.iter_mut().flat_map(|tenants| tenants.values_mut()) {
                let mut series = whole.clone();
                records.push(series.advance(ReadingKind::Periodic, &reader.read(false)));
                wholes.push((whole, series));
            }
            self.append(&records).await?;
            for (target, series) in moved {
                target.state().series = series;
            }
            for (whole, series) in wholes {
                *whole = series;
            }
        }
        Ok(())
    }
}

fn source(cgroup: &Path) -> BTreeMap<String, String> {
    BTreeMap::from([("cgroup".to_owned(), cgroup.display().to_string())])
}
