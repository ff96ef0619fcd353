//! Webhooks: each threshold that was reached is told to an address, at least once and with the same bytes.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Url;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use wharf_shared::budget::{BudgetAction, NoticeState};
use wharf_shared::decimal::Decimal;
use wharf_shared::time::Timestamp;
use wharf_store::budgets::{self, MarkKey, Notice};

use super::Budgets;
use crate::error::Result;
use crate::outbox::event::Verdict;
use crate::outbox::{self, event::MEDIA_TYPE};

/// Webhooks that are sent in one turn.
const BATCH: u32 = 50;
/// Requests at once: an address that does not answer keeps no other waiting.
const AT_ONCE: usize = 8;
/// An answer that does not come within this time is none.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// The event's type.
const KIND: &str = "budget.threshold_reached.v1";

/// `CloudEvents` 1.0.
#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The tenant.
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: &'a Told<'a>,
}

/// What is told. Amounts are texts: a reader that takes them for floats has 53 bits.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    pub(super) tenant_name: &'a str,
    pub(super) percent: u32,
    pub(super) actions: &'a [BudgetAction],
    pub(super) amount: &'a Decimal,
    pub(super) spent: &'a Decimal,
    pub(super) forecast: &'a Decimal,
    pub(super) currency: &'a str,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The bytes of a threshold's webhook, made once with its mark.
pub(super) fn body(source: &str, key: &MarkKey, at: Timestamp, data: &Told<'_>) -> String {
    let MarkKey { tenant, from, version, percent } = key;
    // None of the parts has a line break in it. A budget that was removed and set again counts from 1 again.
    let parts =
        [tenant.as_str(), &from.0.to_string(), &version.to_string(), &percent.to_string(), &at.0.to_string()];
    let made = Event {
        specversion: "1.0",
        id: hex::encode(Sha256::digest(parts.join("\n"))),
        source,
        kind: KIND,
        subject: tenant.as_str(),
        time: at,
        datacontenttype: "application/json",
        data,
    };
    // Texts, words and numbers always can be written.
    serde_json::to_string(&made).unwrap_or_default()
}

/// Says what is wrong with the address of a webhook; `hosts` are those it may name, any when empty.
pub(super) fn problem_of(address: &str, hosts: &[String]) -> Option<String> {
    let found = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(host) = found.as_ref().and_then(Url::host_str) else {
        return Some("is no address; write http://HOST/PATH or https://HOST/PATH".to_owned());
    };
    let is_allowed = hosts.is_empty() || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host));
    (!is_allowed).then(|| format!("the agent's setting budgets.webhook_hosts does not name the host {host}"))
}

impl Budgets {
    /// Sends every webhook whose turn it is, once.
    pub(crate) async fn send_notices(&self) -> Result<()> {
        let now = self.0.clock.now();
        let notices = budgets::notices(&mut self.0.db.one().await?, now, BATCH).await?;
        let mut sent = futures_util::stream::iter(notices)
            .map(|notice| async move { (self.send(&notice).await, notice) })
            .buffer_unordered(AT_ONCE);
        while let Some((verdict, notice)) = sent.next().await {
            let now = self.0.clock.now();
            let pause = outbox::pause(notice.attempts.saturating_add(1));
            let again = Timestamp(now.0.saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)));
            let (state, at, problem) = match verdict {
                Verdict::Taken => (NoticeState::Sent, now, None),
                Verdict::Refused(why) => (NoticeState::Refused, now, Some(why)),
                Verdict::Doubt(why) | Verdict::Trouble(why) => (NoticeState::Queued, again, Some(why)),
            };
            if let Some(problem) = &problem {
                let tenant = notice.key.tenant.as_str();
                tracing::warn!(problem, tenant, state = state.as_str(), "a budget's webhook was not taken");
            }
            let mut tx = self.0.db.begin_unsynced().await?;
            budgets::settle_notice(&mut tx, &notice.key, state, at, problem.as_deref()).await?;
            // Undone by a power cut, it is sent once more, with the same id.
            tx.commit().await?;
        }
        Ok(())
    }

    async fn send(&self, notice: &Notice) -> Verdict {
        let Some(address) = &notice.url else {
            return Verdict::Refused("the budget has no webhook any more".to_owned());
        };
        // The setting may be another than when the budget was set.
        match (problem_of(address, &self.0.config.budgets.webhook_hosts), Url::parse(address)) {
            (None, Ok(url)) => outbox::post(&self.0.client, url, None, MEDIA_TYPE, notice.body.clone()).await,
            (problem, _) => Verdict::Refused(problem.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_goes_only_where_the_settings_allow() {
        let hosts = ["hooks.example".to_owned(), "10.0.0.1".to_owned()];
        for good in ["https://hooks.example/x?key=1", "http://HOOKS.example:8080/", "http://10.0.0.1/"] {
            assert_eq!(problem_of(good, &hosts), None, "{good}");
            assert_eq!(problem_of(good, &[]), None, "{good}");
        }
        for bad in ["http://localhost/", "http://hooks.example.evil/", "http://hooks.example@evil/"] {
            assert!(problem_of(bad, &hosts).is_some_and(|why| why.contains("webhook_hosts")), "{bad}");
        }
        for bad in ["", "hooks.example", "ftp://hooks.example/", "file:///etc/passwd", "http:", "unix:/x"] {
            assert!(problem_of(bad, &[]).is_some_and(|why| why.contains("no address")), "{bad}");
        }
    }

    #[test]
    fn the_same_threshold_has_the_same_id_and_each_other_one_another() {
        let key = MarkKey {
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            from: Timestamp(0),
            version: 1,
            percent: 50,
        };
        let one: Decimal = "1".parse().expect("a decimal");
        let told = Told {
            tenant_name: "blue",
            percent: 50,
            actions: &[BudgetAction::RefuseStarts],
            amount: &one,
            spent: &one,
            forecast: &one,
            currency: "EUR",
            from: Timestamp(0),
            to: Timestamp(1),
        };
        let id = |key: &MarkKey, at: i64| {
            let event: serde_json::Value =
                serde_json::from_str(&body("//host/boot", key, Timestamp(at), &told)).expect("JSON");
            assert_eq!((&event["specversion"], &event["data"]["spent"]), (&"1.0".into(), &"1".into()));
            event["id"].as_str().expect("an id").to_owned()
        };
        let first = id(&key, 5);
        assert!(id(&key, 5) == first && id(&key, 6) != first);
        let others = [
            MarkKey { percent: 51, ..key.clone() },
            MarkKey { version: 2, ..key.clone() },
            MarkKey { from: Timestamp(9), ..key.clone() },
        ];
        assert!(others.iter().all(|other| id(other, 5) != first));
    }
}
