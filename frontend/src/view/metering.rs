//! Whether metering is well, in words.

use wharf_shared::ledger::LedgerView;
use wharf_shared::metering::MeteringView;
use wharf_shared::outbox::OutboxView;
use wharf_shared::time::{HOUR_US, SECOND_US, Timestamp};

use super::{moment, quantity};

/// Hours lag at most a minute behind while all is well; so much later somebody should look.
const LAG_US: i64 = 5 * 60 * SECOND_US;
/// The ledger is signed every hour that something is written in, and at most a little later.
const SIGNED_US: i64 = 2 * HOUR_US;

/// Records that are in the journal but not in the hours.
pub(crate) const fn behind(health: &MeteringView) -> u64 {
    health.head_seq.saturating_sub(health.rolled_up_seq)
}

/// What somebody should look at, the worst first.
pub(crate) fn worries(
    ledger: &LedgerView,
    health: &MeteringView,
    outbox: &OutboxView,
    now: Timestamp,
) -> Vec<String> {
    let mut said = Vec::new();
    if !ledger.reserve_is_whole {
        said.push(
            "The disk is full: the room for last readings is not there, and nothing starts. Free some space."
                .to_owned(),
        );
    }
    if !health.is_storing {
        said.push(
            "The last readings could not be stored. The newest are kept and nothing starts until they are; \
             the agent's log says why."
                .to_owned(),
        );
    }
    if let Some(at) = health.rolled_up_at.filter(|at| now.0 - at.0 > LAG_US) {
        let lag = moment::duration(now.0 - at.0);
        said.push(format!("Usage and statements lack the last {lag}: the store may be slow or away."));
    }
    if let Some(checkpoint) = ledger.last_checkpoint.as_ref().filter(|last| now.0 - last.at.0 > SIGNED_US) {
        let age = moment::duration(now.0 - checkpoint.at.0);
        said.push(format!("The ledger was not signed for {age}; it should be every hour."));
    }
    if outbox.failures > 0 {
        let tries = quantity::plural(usize::try_from(outbox.failures).unwrap_or(usize::MAX), "attempt");
        said.push(format!("Events of usage cannot be sent, after {tries}; they wait."));
    }
    if outbox.refused > 0 {
        said.push(format!("The endpoint has refused {} of the events of usage.", outbox.refused));
    }
    if outbox.dropped > 0 {
        said.push(format!("{} additions to usage were never sent: the outbox was full.", outbox.dropped));
    }
    said
}

/// The page's answer.
pub(crate) fn sentence(worries: &[String]) -> String {
    match worries.len() {
        0 => "What is measured is stored, signed and in the hours.".to_owned(),
        count => format!("{} to look at", quantity::plural(count, "thing")),
    }
}

/// A fault's word and what it means for the bill.
pub(crate) fn fault(kind: &str) -> (String, &'static str) {
    match kind {
        "gap" => ("gap".to_owned(), "Nothing is known of this time, and nothing is billed for it."),
        "reset" => (
            "counter reset".to_owned(),
            "A kernel counter went down; what came after it is counted from there.",
        ),
        "clock_step" => ("clock set".to_owned(), "The wall clock was set; no duration depends on it."),
        other => (other.replace('_', " "), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shared::ledger::LedgerCheckpointView;

    fn well(now: Timestamp) -> (LedgerView, MeteringView, OutboxView) {
        let host: wharf_shared::id::HostId =
            "hst_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("an id");
        let ledger = LedgerView {
            host: host.clone(),
            public_key: String::new(),
            head_seq: 9,
            head_hash: String::new(),
            last_checkpoint: Some(LedgerCheckpointView { seq: 1, at: now }),
            reserve_is_whole: true,
        };
        let health = MeteringView {
            host,
            containers: 1,
            is_storing: true,
            head_seq: 9,
            rolled_up_seq: 7,
            rolled_up_at: Some(now),
            gaps: 0,
            resets: 0,
            clock_steps: 0,
            last_faults: Vec::new(),
        };
        let outbox = OutboxView {
            url: None,
            gathering: 0,
            queued: 0,
            refused: 0,
            dropped: 0,
            oldest_queued_hour: None,
            sent: 0,
            last_sent_at: None,
            problem: None,
            failures: 0,
            last_refused: Vec::new(),
        };
        (ledger, health, outbox)
    }

    #[test]
    fn all_is_well_only_when_everything_is() {
        let now = Timestamp(100 * HOUR_US);
        let (ledger, health, outbox) = well(now);
        assert_eq!(worries(&ledger, &health, &outbox, now), Vec::<String>::new());
        assert!(sentence(&[]).starts_with("What is measured"));
        assert_eq!(behind(&health), 2);
        let full = LedgerView { reserve_is_whole: false, ..ledger.clone() };
        let late = MeteringView { rolled_up_at: Some(Timestamp(now.0 - HOUR_US)), ..health.clone() };
        let failing = MeteringView { is_storing: false, ..health.clone() };
        let refused = OutboxView { refused: 3, ..outbox.clone() };
        let old = Timestamp(now.0 + 3 * HOUR_US);
        let fresh = MeteringView { rolled_up_at: Some(old), ..health.clone() };
        for (ledger, health, outbox, now, word) in [
            (&full, &health, &outbox, now, "disk is full"),
            (&ledger, &late, &outbox, now, "lack the last 1 h 0 m"),
            (&ledger, &failing, &outbox, now, "could not be stored"),
            (&ledger, &health, &refused, now, "refused 3"),
            (&ledger, &fresh, &outbox, old, "not signed for 3 h 0 m"),
        ] {
            let said = worries(ledger, health, outbox, now);
            assert!(said.len() == 1 && said[0].contains(word), "{word}: {said:?}");
        }
    }
}
