//! The containers: a list from the API, kept current by events, with live metrics.
//!
//! Each row has signals of its own, so that a second's metrics touch only cells in sight. Signals are
//! counted references, because rows come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use leptos::prelude::*;
use wharf_shared::container::ContainerView;
use wharf_shared::event::EventView;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{MetricsPoint, Topic, TopicItem};
use wharf_shared::problem::ProblemKind;

use super::Events;
use crate::api::{Api, Failure, Live, Told};
use crate::view::rows::{Column, Entry};
use crate::view::state::Action;
use crate::view::total::Total;

/// Seconds in a sparkline.
pub(crate) const SPARK_POINTS: usize = 60;
/// Changes are gathered so long before they are asked for.
const SETTLE: Duration = Duration::from_millis(120);
/// More changes than this at once, and the whole list is fetched instead.
const SINGLE_MAX: usize = 12;

/// One container.
#[derive(Clone)]
pub(crate) struct Row {
    /// Id.
    pub(crate) id: ContainerId,
    /// What it is.
    pub(crate) view: ArcRwSignal<ContainerView>,
    /// Its last second, while it runs.
    pub(crate) point: ArcRwSignal<Option<MetricsPoint>>,
    /// Thousandths of a CPU in the last seconds.
    pub(crate) spark: ArcStoredValue<VecDeque<u64>>,
}

/// All containers that one may see.
#[derive(Clone, Copy)]
pub(crate) struct Containers {
    api: Api,
    rows: RwSignal<BTreeMap<ContainerId, Row>>,
    is_loaded: RwSignal<bool>,
    failure: RwSignal<Option<Failure>>,
    tick: RwSignal<u32>,
    changed: StoredValue<BTreeSet<ContainerId>>,
}

impl Containers {
    /// Fetches the list and follows it.
    pub(crate) fn new(api: Api, live: Live, events: Events) -> Self {
        let containers = Self {
            api,
            rows: RwSignal::new(BTreeMap::new()),
            is_loaded: RwSignal::new(false),
            failure: RwSignal::new(None),
            tick: RwSignal::new(0),
            changed: StoredValue::new(BTreeSet::new()),
        };
        let subscription = live.subscribe(Topic::Metrics { container: None }, move |told| {
            if let Told::Items(items) = told {
                containers.measure(items);
            }
        });
        // Ends with the owner of this.
        StoredValue::new_local(subscription);
        events.on_each(move |event| containers.hear(event));
        // After each reconnect too: events resume by their number, but only for what they still hold.
        Effect::new(move |_| {
            if live.connection().get() == crate::api::Connection::Live {
                containers.reload();
            }
        });
        containers.reload();
        containers
    }

    /// The ones that the shell provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// All rows, by id.
    pub(crate) fn rows(self) -> Signal<BTreeMap<ContainerId, Row>> {
        self.rows.into()
    }

    /// Whether the list was fetched.
    pub(crate) fn is_loaded(self) -> Signal<bool> {
        self.is_loaded.into()
    }

    /// Why it was not.
    pub(crate) fn failure(self) -> Signal<Option<Failure>> {
        self.failure.into()
    }

    /// Counts batches of metrics.
    pub(crate) fn tick(self) -> Signal<u32> {
        self.tick.into()
    }

    /// The row that a page's address means: an id, the beginning of one, or a name.
    pub(crate) fn find(self, given: &str) -> Option<Row> {
        self.rows.with(|rows| {
            let by_id = |row: &&Row| given.len() >= 4 && row.id.as_str().starts_with(given);
            let by_name = |row: &&Row| row.view.with(|view| view.name == given);
            rows.values().find(by_id).or_else(|| rows.values().find(by_name)).cloned()
        })
    }

    /// What all of these use and cost now; follows the metrics.
    pub(crate) fn total<'a>(self, rows: impl Iterator<Item = &'a Row>) -> Total {
        self.tick.track();
        let mut total = Total::default();
        for row in rows {
            row.point.with_untracked(|point| point.iter().for_each(|point| total.add(point)));
        }
        total
    }

    /// Fetches the list.
    pub(crate) fn reload(self) {
        leptos::task::spawn_local(async move {
            match self.api.list::<ContainerView>("/containers?all=true".to_owned()).await {
                Ok(list) => {
                    self.failure.try_set(None);
                    self.replace(list);
                    self.is_loaded.try_set(true);
                }
                Err(failure) => {
                    self.failure.try_set(Some(failure));
                }
            }
        });
    }

    /// Does something to one container.
    pub(crate) async fn act(self, action: Action, id: &ContainerId) -> Result<(), Failure> {
        let path = match action {
            Action::Remove => {
                self.api.act("DELETE", format!("/containers/{id}?force=true")).await?;
                self.rows.try_update(|rows| rows.remove(id));
                return Ok(());
            }
            Action::Kill => {
                let body = wharf_shared::container::SignalRequest { signal: "SIGKILL".to_owned() };
                self.api.send_unit("POST", format!("/containers/{id}/kill"), Some(&body)).await?;
                return Ok(());
            }
            Action::Stop => {
                let body = wharf_shared::container::StopRequest::default();
                let view = self.api.send("POST", format!("/containers/{id}/stop"), Some(&body)).await?;
                self.put(view);
                return Ok(());
            }
            Action::Start => "start",
            Action::Restart => "restart",
            Action::Pause => "pause",
            Action::Resume => "resume",
        };
        let view = self.api.send::<(), _>("POST", format!("/containers/{id}/{path}"), None).await?;
        self.put(view);
        Ok(())
    }

    /// Takes a newer view of one.
    pub(crate) fn put(self, view: ContainerView) {
        let row = self.rows.try_with_untracked(|rows| rows.get(&view.id).cloned());
        match row {
            Some(Some(row)) => row.put(view),
            Some(None) => {
                self.rows.try_update(|rows| rows.insert(view.id.clone(), Row::new(view)));
            }
            None => {}
        }
    }

    fn replace(self, list: Vec<ContainerView>) {
        let Some(old) = self.rows.try_get_untracked() else { return };
        let is_same_set = old.len() == list.len() && list.iter().all(|view| old.contains_key(&view.id));
        let mut rows = BTreeMap::new();
        for view in list {
            let row = old.get(&view.id).cloned();
            let id = view.id.clone();
            let row = match row {
                Some(row) => {
                    row.put(view);
                    row
                }
                None => Row::new(view),
            };
            rows.insert(id, row);
        }
        if !is_same_set {
            self.rows.try_set(rows);
        }
    }

    fn hear(self, event: &EventView) {
        if !event.kind.starts_with("container.") {
            return;
        }
        let Ok(id) = event.subject.parse::<ContainerId>() else { return };
        let is_first = self.changed.try_update_value(|changed| {
            changed.insert(id);
            changed.len() == 1
        });
        if is_first == Some(true) {
            set_timeout(move || self.refresh(), SETTLE);
        }
    }

    fn refresh(self) {
        let Some(changed) = self.changed.try_update_value(std::mem::take) else { return };
        if changed.len() > SINGLE_MAX {
            return self.reload();
        }
        for id in changed {
            leptos::task::spawn_local(async move {
                match self.api.get::<ContainerView>(format!("/containers/{id}")).await {
                    Ok(view) => self.put(view),
                    Err(failure) if failure.is(ProblemKind::NotFound) => {
                        self.rows.try_update(|rows| rows.remove(&id));
                    }
                    // The next event or reconnect asks again.
                    Err(_) => {}
                }
            });
        }
    }

    fn measure(self, items: Vec<TopicItem>) {
        self.rows.with_untracked(|rows| {
            for item in items {
                let TopicItem::Metrics(point) = item else { continue };
                if let Some(row) = rows.get(&point.container) {
                    row.measure(point);
                }
            }
        });
        self.tick.update(|tick| *tick = tick.wrapping_add(1));
    }
}

impl Row {
    /// Its place by a column; follows what it is, not the metrics.
    pub(crate) fn entry(&self, column: Column) -> Entry {
        let point = self.point.read_untracked();
        self.view.with(|view| Entry::new(view, point.as_ref(), column))
    }

    fn new(view: ContainerView) -> Self {
        Self {
            id: view.id.clone(),
            view: ArcRwSignal::new(view),
            point: ArcRwSignal::new(None),
            spark: ArcStoredValue::new(VecDeque::new()),
        }
    }

    fn put(&self, view: ContainerView) {
        let is_news = self.view.with_untracked(|old| *old != view && old.version <= view.version);
        if !is_news {
            return;
        }
        if !view.state.is_live() && self.point.with_untracked(Option::is_some) {
            self.point.set(None);
        }
        self.view.set(view);
    }

    fn measure(&self, point: MetricsPoint) {
        // A second that was on its way when the container ended is not shown as its present.
        if !self.view.with_untracked(|view| view.state.is_live()) {
            return;
        }
        self.spark.update_value(|spark| {
            spark.push_back(point.cpu_millis.value().unwrap_or(0));
            if spark.len() > SPARK_POINTS {
                spark.pop_front();
            }
        });
        self.point.set(Some(point));
    }
}
