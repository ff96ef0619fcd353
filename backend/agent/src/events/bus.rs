//! Events: recorded with the change, read again by number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::watch;
use wharf_shared::event::EventView;
use wharf_shared::id::TenantId;
use wharf_store::events::{self, NewEvent};
use wharf_store::{Db, Scope, Tx};

use super::Deed;
use crate::clock::Clock;
use crate::ctx::Ctx;
use crate::error::Result;

/// Events read from the table at once.
const BATCH: u32 = 256;
/// Without a wake-up the table is looked at so often: another agent may have written to it.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// Kind of the event that stands for those that are no longer kept; it is in no table.
const GAP: &str = "events.gap";

/// Something that happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Noun and verb, such as `container.started`.
    pub(crate) kind: &'static str,
    /// Whose thing it happened to; `None` for the host's own.
    pub(crate) tenant: Option<TenantId>,
    /// Id or reference of the thing.
    pub(crate) subject: String,
    /// Name of the thing, for people.
    pub(crate) subject_name: String,
    /// More, by kind.
    pub(crate) detail: BTreeMap<String, String>,
}

/// Records events and audit entries, and wakes those who wait for events.
#[derive(Debug, Clone)]
pub(crate) struct EventBus {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    /// Only its changing matters.
    hint: watch::Sender<()>,
}

impl EventBus {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock, hint: watch::Sender::new(()) }
    }

    /// Writes an event in the transaction of the change: best as its last statement but the audit's.
    pub(crate) async fn record(&self, tx: &mut Tx, _ctx: &Ctx, change: Change) -> Result<EventView> {
        let Change { kind, tenant, subject, subject_name, detail } = change;
        let at = self.clock.now();
        let event = NewEvent { at, kind: kind.to_owned(), tenant, subject, subject_name, detail };
        Ok(events::append(tx, event).await?)
    }

    /// Writes the audit entry of an action and the event that it caused.
    pub(crate) async fn changed(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        action: &'static str,
        change: Change,
    ) -> Result<EventView> {
        let deed = Deed {
            action,
            tenant: change.tenant.clone(),
            subject: change.subject.clone(),
            refused: None,
            detail: change.detail.clone(),
        };
        self.audit(tx, ctx, deed).await?;
        self.record(tx, ctx, change).await
    }

    /// Wakes subscribers; called after the commit.
    pub(crate) fn publish(&self) {
        self.hint.send_replace(());
    }

    /// Events after this number that the scope covers, in order, at most so many; 0 begins with the
    /// first that is kept. When events after another number are no longer kept, an `events.gap` stands
    /// in their place: nobody who resumes takes a hole for silence.
    pub(crate) async fn list(&self, scope: &Scope, after: i64, limit: u32) -> Result<Vec<EventView>> {
        let mut tx = self.db.read().await?;
        let purged_to = if after > 0 { events::purged_to(&mut tx).await? } else { 0 };
        if after >= purged_to {
            return Ok(events::list(&mut tx, scope, after, limit).await?);
        }
        let mut found = vec![self.gap(after, purged_to)];
        found.extend(events::list(&mut tx, scope, purged_to, limit.saturating_sub(1)).await?);
        Ok(found)
    }

    /// Stands for events that are no longer kept; its number is the last one's, to resume after.
    fn gap(&self, after: i64, purged_to: i64) -> EventView {
        EventView {
            seq: purged_to,
            at: self.clock.now(),
            kind: GAP.to_owned(),
            tenant: None,
            subject: "events".to_owned(),
            subject_name: format!("events {} to {purged_to} are no longer kept", after.saturating_add(1)),
            detail: BTreeMap::new(),
        }
    }

    /// Events after this number, or from now on, without end. After an error the stream goes on.
    pub(crate) fn subscribe(
        &self,
        scope: Scope,
        after: Option<i64>,
    ) -> impl Stream<Item = Result<EventView>> + Send + 'static {
        let hint = self.hint.subscribe();
        let state = Subscription { bus: self.clone(), scope, after, hint, ready: VecDeque::new() };
        stream::unfold(state, |mut state| async move {
            let item = state.next().await;
            Some((item, state))
        })
    }
}

struct Subscription {
    bus: EventBus,
    scope: Scope,
    after: Option<i64>,
    hint: watch::Receiver<()>,
    ready: VecDeque<EventView>,
}

impl Subscription {
    async fn next(&mut self) -> Result<EventView> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = Some(event.seq);
                return Ok(event);
            }
            // Seen before the table is read: what is published from here on wakes us again.
            self.hint.mark_unchanged();
            let after = self.begin().await?;
            self.ready = self.bus.list(&self.scope, after, BATCH).await?.into();
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn begin(&mut self) -> Result<i64> {
        if let Some(after) = self.after {
            return Ok(after);
        }
        let last = events::last_seq(&mut self.bus.db.read().await?).await?;
        self.after = Some(last);
        Ok(last)
    }

    async fn wait(&mut self) {
        // Both branches only say when to look again. The sender lives in `self.bus`, so it is never gone.
        tokio::select! {
            _ = self.hint.changed() => {}
            () = tokio::time::sleep(LOOK_ANYWAY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::clock::SystemClock;

    async fn bus(dir: &std::path::Path) -> EventBus {
        let db = Db::connect(&format!("sqlite:{}", dir.join("t.db").display())).await.expect("a database");
        EventBus::new(db, SystemClock::shared())
    }

    async fn happen(bus: &EventBus, kind: &'static str, tenant: Option<&TenantId>) {
        let mut tx = bus.db.begin().await.expect("begun");
        let change = Change { kind, tenant: tenant.cloned(), ..Change::default() };
        bus.changed(&mut tx, &Ctx::system("test"), "test.do", change).await.expect("recorded");
        tx.commit().await.expect("committed");
        bus.publish();
    }

    fn tenant(last: char) -> TenantId {
        format!("tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3{last}").parse().expect("an id")
    }

    #[tokio::test]
    async fn a_subscriber_gets_what_it_missed_and_then_what_happens() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bus = bus(dir.path()).await;
        happen(&bus, "a.one", None).await;
        happen(&bus, "a.two", None).await;
        let mut all = Box::pin(bus.subscribe(Scope::All, Some(1)));
        assert_eq!(all.next().await.expect("endless").expect("read").kind, "a.two");
        let waiting = all.next();
        happen(&bus, "a.three", None).await;
        assert_eq!(waiting.await.expect("endless").expect("read").seq, 3);
    }

    #[tokio::test]
    async fn a_subscriber_sees_only_its_own_tenant() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bus = bus(dir.path()).await;
        happen(&bus, "a.other", Some(&tenant('b'))).await;
        happen(&bus, "a.host", None).await;
        happen(&bus, "a.own", Some(&tenant('a'))).await;
        let mut own = Box::pin(bus.subscribe(Scope::Tenant(tenant('a')), Some(0)));
        assert_eq!(own.next().await.expect("endless").expect("read").kind, "a.own");
    }

    #[tokio::test]
    async fn an_undone_change_leaves_neither_event_nor_entry() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bus = bus(dir.path()).await;
        let mut tx = bus.db.begin().await.expect("begun");
        bus.changed(&mut tx, &Ctx::system("test"), "test.do", Change::default()).await.expect("recorded");
        drop(tx);
        assert!(bus.list(&Scope::All, 0, 10).await.expect("read").is_empty());
        assert!(bus.trail(&Ctx::system("test"), None, None).await.expect("read").items.is_empty());
    }
}
