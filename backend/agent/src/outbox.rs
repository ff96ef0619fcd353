//! Sends events of usage to an endpoint outside, each at least once and always with the same id and bytes.
//!
//! The roll-up gathers them in the transaction that adds to the sums (`wharf_store::outbox`). When an hour has
//! been over for a while, its events get their bytes in a synced commit, and only then the first attempt is
//! made: whatever happens to the agent or the machine afterwards, what is sent again is what was sent before.
//! Nothing here decides what was used, and nobody waits for it.
//!
//! The events are `CloudEvents` 1.0 in `OpenMeter`'s shape, one a request. All events of a container's hour and
//! meter add up to what was counted for it, unless the outbox was full, and then those that are made later say that
//! they are partial. There is a second one only where a reading or a correction came later than the first was made;
//! of a correction that takes away, its quantity is below zero. `CloudEvents` leaves data to who sends it, and a sum
//! of `OpenMeter`'s takes such a number as it is; an event of another type would have to be known to every reader,
//! or be missing in its sums.

pub(crate) mod event;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use event::{Verdict, outcomes, verdict};
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url, redirect};
use wharf_shared::id::HostId;
use wharf_shared::outbox::{OutboxRetry, OutboxView, RefusedEvent};
use wharf_shared::permission::Permission;
use wharf_shared::time::{HOUR_US, SECOND_US, Timestamp};
use wharf_store::outbox::{self, Queued};
use wharf_store::{Db, Tx};

use crate::clock::Clock;
use crate::config;
use crate::ctx::Ctx;
use crate::error::{Result, chain};
use crate::events::{Deed, EventBus};
use crate::tasks::{OnEnd, Tasks};

/// So often it is looked for events, and how long the first pause after a failure is at least.
const EVERY: Duration = Duration::from_secs(10);
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Events that get their bytes, or whose outcomes are written, in one transaction.
const BATCH: u32 = 200;
/// Requests at once.
const AT_ONCE: usize = 8;
/// Refused events that are shown.
const SHOWN: u32 = 100;
/// Bytes of the endpoint's answer that are kept with a refusal.
const ANSWER_BYTES: usize = 300;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    host: HostId,
    /// `//host/boot`: where events come from.
    source: String,
    settle_us: i64,
    endpoint: Option<Endpoint>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Endpoint {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

/// What has happened since the agent started.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    last_sent_at: Option<Timestamp>,
    problem: Option<String>,
    failures: u32,
}

impl Endpoint {
    fn open(said: &config::Outbox) -> anyhow::Result<Option<Self>> {
        if said.url.is_empty() {
            return Ok(None);
        }
        let url = Url::parse(&said.url).context("outbox.url is no address")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https") && url.host().is_some(),
            "outbox.url is no address of an endpoint; write http://HOST/PATH or https://HOST/PATH"
        );
        let client = client(Duration::from_secs(u64::from(said.timeout_s.max(1))))
            .context("set up the HTTP client of the outbox")?;
        Ok(Some(Self { client, url, authorization: authorization(&said.token_file)? }))
    }

    /// The address without what may be a secret.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        match url.set_username("").and_then(|()| url.set_password(None)) {
            Ok(()) => url.into(),
            Err(()) => "(hidden)".to_owned(),
        }
    }

    async fn send(&self, event: &Queued) -> Verdict {
        let (url, authorization) = (self.url.clone(), self.authorization.clone());
        post(&self.client, url, authorization, event::MEDIA_TYPE, event.body.clone()).await
    }
}

/// A client that goes where it is told and nowhere else.
pub(crate) fn client(timeout: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .timeout(timeout)
        // A token goes where it was meant to go.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("wharfd/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends an event once.
pub(crate) async fn post(
    client: &Client,
    url: Url,
    authorization: Option<HeaderValue>,
    media_type: &'static str,
    body: String,
) -> Verdict {
    let mut request = client.post(url).body(body).header(CONTENT_TYPE, media_type);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    match request.send().await {
        Ok(mut answer) => {
            let status = answer.status();
            // Why is only for people; an answer that breaks off was still given.
            let body = answer.chunk().await.ok().flatten().unwrap_or_default();
            let why = String::from_utf8_lossy(body.get(..ANSWER_BYTES).unwrap_or(&body)).into_owned();
            verdict(status.as_u16(), &why)
        }
        Err(error) => Verdict::Trouble(chain(&error.without_url())),
    }
}

fn authorization(file: &Path) -> anyhow::Result<Option<HeaderValue>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let token = std::fs::read_to_string(file)
        .with_context(|| format!("read outbox.token_file, {}", file.display()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .with_context(|| format!("{} holds no token", file.display()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Outbox {
    pub(crate) fn new(
        said: &config::Outbox,
        (host, boot_id): (HostId, &str),
        db: Db,
        clock: Arc<dyn Clock>,
        events: EventBus,
    ) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            events,
            source: format!("//{host}/{boot_id}"),
            host,
            settle_us: i64::from(said.settle_s) * SECOND_US,
            endpoint: Endpoint::open(said)?,
            seen: Mutex::default(),
        })))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    pub(crate) async fn view(&self, ctx: &Ctx) -> Result<OutboxView> {
        ctx.require(Permission::HostRead)?;
        let mut tx = self.0.db.read().await?;
        let counts = outbox::counts(&mut tx, &self.0.host).await?;
        let refused = outbox::refused(&mut tx, &self.0.host, SHOWN).await?;
        let seen = self.seen();
        Ok(OutboxView {
            url: self.0.endpoint.as_ref().map(Endpoint::shown),
            gathering: counts.gathering,
            queued: counts.queued,
            refused: counts.refused,
            dropped: counts.dropped,
            oldest_queued_hour: counts.oldest_queued_hour,
            sent: seen.sent,
            last_sent_at: seen.last_sent_at,
            problem: seen.problem.clone(),
            failures: seen.failures,
            last_refused: refused
                .into_iter()
                .map(|event| RefusedEvent {
                    hour: event.key.hour,
                    tenant: event.key.tenant,
                    container: event.key.container,
                    meter: event.key.meter,
                    revision: event.key.revision,
                    problem: event.problem,
                    refused_at: event.refused_at,
                })
                .collect(),
        })
    }

    /// Queues all refused events again, as they are.
    pub(crate) async fn retry(&self, ctx: &Ctx) -> Result<OutboxRetry> {
        ctx.require(Permission::PriceManage)?;
        let mut tx = self.0.db.begin().await?;
        let queued = outbox::retry(&mut tx, &self.0.host, self.0.clock.now()).await?;
        let detail = [("events".to_owned(), queued.to_string())].into();
        let deed = Deed { action: "outbox.retry", detail, ..Deed::default() };
        self.0.events.audit(&mut tx, ctx, deed).await?;
        tx.commit().await?;
        Ok(OutboxRetry { queued })
    }

    /// Sends until the agent stops; at once nothing if there is no endpoint.
    pub(crate) fn run(&self, tasks: &Tasks) {
        if self.0.endpoint.is_none() {
            return;
        }
        let (outbox, stop) = (self.clone(), tasks.stopping());
        tasks.spawn("send events of usage", OnEnd::Shutdown, async move {
            loop {
                // An attempt that is cut off is made again by the next agent.
                tokio::select! {
                    () = outbox.turn() => {}
                    () = stop.cancelled() => return,
                }
                let pause = pause(outbox.seen().failures);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Sends what there is until nothing waits or the endpoint is in trouble.
    pub(crate) async fn turn(&self) {
        let problem = match self.try_turn().await {
            Ok(problem) => problem,
            Err(error) => Some(chain(&error)),
        };
        let mut seen = self.seen();
        match &problem {
            Some(problem) if seen.problem.is_none() => {
                tracing::warn!(problem, "events of usage are not taken; they wait and are sent again");
            }
            None if seen.problem.is_some() => tracing::info!("events of usage are taken again"),
            _ => {}
        }
        seen.failures = if problem.is_some() { seen.failures.saturating_add(1) } else { 0 };
        seen.problem = problem;
    }

    async fn try_turn(&self) -> Result<Option<String>> {
        let Some(endpoint) = &self.0.endpoint else { return Ok(None) };
        while self.queue_batch().await? == BATCH {}
        loop {
            let events = outbox::next(&mut self.0.db.one().await?, &self.0.host, BATCH).await?;
            if events.is_empty() {
                return Ok(None);
            }
            // In trouble no more are sent, but those on their way are waited for.
            let in_trouble = AtomicBool::new(false);
            let mut verdicts = futures_util::stream::iter(events)
                .take_while(|_| std::future::ready(!in_trouble.load(Ordering::Relaxed)))
                .map(|event| async move { (endpoint.send(&event).await, event) })
                .buffer_unordered(AT_ONCE);
            let mut answered = Vec::new();
            while let Some((verdict, event)) = verdicts.next().await {
                if matches!(verdict, Verdict::Trouble(_) | Verdict::Doubt(_)) {
                    in_trouble.store(true, Ordering::Relaxed);
                }
                answered.push((verdict, event));
            }
            drop(verdicts);
            let (outcomes, problem) = outcomes(answered);
            self.settle(&outcomes).await?;
            if problem.is_some() {
                return Ok(problem);
            }
        }
    }

    /// Gives a batch of events their bytes, on the disk before anybody outside sees them.
    async fn queue_batch(&self) -> Result<u32> {
        let now = self.0.clock.now();
        // The last hour that has been over for long enough.
        let last_hour = Timestamp(now.0 - self.0.settle_us - HOUR_US);
        let mut tx = self.0.db.begin().await?;
        let gathered = outbox::gathered(&mut tx, &self.0.host, last_hour, BATCH).await?;
        for event in &gathered {
            let body = event::body(&self.0.host, &self.0.source, event);
            outbox::queue(&mut tx, &self.0.host, &event.key, &body, now).await?;
        }
        tx.commit().await?;
        Ok(u32::try_from(gathered.len()).unwrap_or(BATCH))
    }

    async fn settle(&self, outcomes: &[(Verdict, Queued)]) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let now = self.0.clock.now();
        // Undone by a power cut, it is sent once more, with the same id.
        let mut tx: Tx = self.0.db.begin_unsynced().await?;
        let mut sent = 0;
        for (verdict, event) in outcomes {
            if let Verdict::Refused(problem) = verdict {
                tracing::warn!(problem, container = event.key.container.as_str(), "an event was refused");
                outbox::refuse(&mut tx, &self.0.host, &event.key, problem, now).await?;
            } else {
                outbox::taken(&mut tx, &self.0.host, &event.key).await?;
                sent += 1;
            }
        }
        tx.commit().await?;
        let mut seen = self.seen();
        seen.sent += sent;
        if sent > 0 {
            seen.last_sent_at = Some(now);
        }
        Ok(())
    }
}

/// How long to wait after so many failures: twice as long each time.
pub(crate) fn pause(failures: u32) -> Duration {
    EVERY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let pauses: Vec<u64> = [0, 1, 2, 3, 5, 6, 40].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(pauses, [10, 10, 20, 40, 160, 300, 300]);
    }

    #[test]
    fn an_address_is_shown_without_its_secrets_and_a_bad_one_refused() {
        let open = |url: &str| Endpoint::open(&config::Outbox { url: url.to_owned(), ..Default::default() });
        let endpoint = open("https://me:secret@meter.example/api?key=secret").expect("good").expect("set");
        assert_eq!(endpoint.shown(), "https://meter.example/api");
        assert!(open("").expect("nothing").is_none());
        for bad in ["meter.example", "ftp://meter.example/", "http:"] {
            assert!(open(bad).is_err(), "{bad}");
        }
        let file = Path::new("/no/such/token");
        assert!(format!("{:#}", authorization(file).expect_err("no file")).contains("/no/such/token"));
    }
}
