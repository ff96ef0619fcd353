//! The bytes of an event, and what an endpoint's answer means: pure.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use wharf_shared::id::HostId;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Quality;
use wharf_store::outbox::{EventKey, Gathered};

/// Of one event in JSON.
pub(crate) const MEDIA_TYPE: &str = "application/cloudevents+json";

/// `CloudEvents` 1.0 as `OpenMeter` takes it.
#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: String,
    /// The tenant.
    subject: &'a str,
    /// The hour that it is of.
    time: Timestamp,
    datacontenttype: &'static str,
    data: Data<'a>,
}

/// Numbers are texts: a reader that takes them for floats has 53 bits.
#[derive(Serialize)]
struct Data<'a> {
    container: &'a str,
    quantity: String,
    unit: &'static str,
    quality: Quality,
    revision: String,
}

/// An event's bytes; the same for the same event, wherever and whenever they are made, but for its source.
pub(super) fn body(host: &HostId, source: &str, event: &Gathered) -> String {
    let key = &event.key;
    let made = Event {
        specversion: "1.0",
        id: id(host, key),
        source,
        kind: format!("usage.{}.v1", key.meter.as_str()),
        subject: key.tenant.as_str(),
        time: key.hour,
        datacontenttype: "application/json",
        data: Data {
            container: key.container.as_str(),
            quantity: event.quantity.to_string(),
            unit: key.meter.unit(),
            quality: event.quality,
            revision: key.revision.to_string(),
        },
    };
    // Texts and words always can be written.
    serde_json::to_string(&made).unwrap_or_default()
}

/// The key that an endpoint knows an event again by: a hash of all that tells it from others.
fn id(host: &HostId, key: &EventKey) -> String {
    let EventKey { hour, tenant, container, meter, revision } = key;
    let parts = [
        host.as_str(),
        &hour.0.to_string(),
        tenant.as_str(),
        container.as_str(),
        meter.as_str(),
        &revision.to_string(),
    ];
    // None of the parts has a line break in it.
    hex::encode(Sha256::digest(parts.join("\n")))
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint has the event.
    Taken,
    /// It will never have this event.
    Refused(String),
    /// Perhaps it will never have this event, perhaps it will have none: rights or the address may be wrong.
    Doubt(String),
    /// Nothing is wrong with the event: it is sent again later.
    Trouble(String),
}

/// What a status means. 409 is the answer of an endpoint that knows the event already. A wrong token says nothing
/// about an event, and a wrong address neither: those answers refuse it only if the endpoint takes others meanwhile.
pub(super) fn verdict(status: u16, why: &str) -> Verdict {
    let said = || format!("the endpoint answered {status}: {}", why.trim());
    match status {
        200..=299 | 409 => Verdict::Taken,
        401 | 407 | 408 | 425 | 429 => Verdict::Trouble(said()),
        402..=405 | 421 | 423 => Verdict::Doubt(said()),
        400..=499 => Verdict::Refused(said()),
        _ => Verdict::Trouble(said()),
    }
}

/// What becomes of a batch: each event's outcome, and what is wrong with the endpoint. If it has taken others, rights
/// and address are good, so what was in doubt is the event's own fault.
pub(super) fn outcomes<E>(verdicts: Vec<(Verdict, E)>) -> (Vec<(Verdict, E)>, Option<String>) {
    let takes = verdicts.iter().any(|(verdict, _)| *verdict == Verdict::Taken);
    let (mut outcomes, mut problem) = (Vec::new(), None);
    for (verdict, event) in verdicts {
        match verdict {
            Verdict::Doubt(why) if takes => outcomes.push((Verdict::Refused(why), event)),
            Verdict::Doubt(why) | Verdict::Trouble(why) => problem = Some(why),
            settled => outcomes.push((settled, event)),
        }
    }
    (outcomes, problem)
}

#[cfg(test)]
mod tests {
    use wharf_shared::usage::Meter;

    use super::*;

    fn event() -> Gathered {
        Gathered {
            key: EventKey {
                hour: Timestamp(1_800_000_000_000_000),
                tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
                container: "a".repeat(64).parse().expect("an id"),
                meter: Meter::MemoryUsed,
                revision: 17,
            },
            quantity: i128::MIN,
            quality: Quality::Measured,
        }
    }

    fn host() -> HostId {
        "hst_00000000-0000-7000-8000-000000000001".parse().expect("an id")
    }

    #[test]
    fn an_event_has_the_attributes_of_cloudevents_and_numbers_as_texts() {
        let text = body(&host(), "//host/boot", &event());
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (name, expected) in [
            ("specversion", "1.0"),
            ("source", "//host/boot"),
            ("type", "usage.memory_used.v1"),
            ("subject", "tnt_00000000-0000-7000-8000-000000000001"),
            ("time", "2027-01-15T08:00:00Z"),
        ] {
            assert_eq!(value[name], expected);
        }
        assert_eq!(value["data"]["quantity"], "-170141183460469231731687303715884105728");
        assert!(value["id"].as_str().is_some_and(|id| id.len() == 64));
    }

    #[test]
    fn each_part_of_the_key_makes_another_id() {
        let first = event().key;
        let mut ids = vec![id(&host(), &first)];
        let changes: [fn(&mut EventKey); 4] = [
            |key| key.hour.0 += 3_600_000_000,
            |key| key.container = "b".repeat(64).parse().expect("an id"),
            |key| key.meter = Meter::CpuUsed,
            |key| key.revision += 1,
        ];
        for change in changes {
            let mut key = first.clone();
            change(&mut key);
            ids.push(id(&host(), &key));
        }
        assert_eq!(ids[0], id(&host(), &first));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn only_an_answer_about_the_event_refuses_it() {
        for status in [200, 202, 204, 409] {
            assert_eq!(verdict(status, ""), Verdict::Taken);
        }
        for status in [400, 410, 413, 422] {
            assert!(
                matches!(verdict(status, "bad"), Verdict::Refused(why) if why.contains("bad")),
                "{status}"
            );
        }
        for status in [402, 403, 404] {
            assert!(matches!(verdict(status, ""), Verdict::Doubt(_)), "{status}");
        }
        for status in [301, 401, 408, 429, 500, 503] {
            assert!(matches!(verdict(status, ""), Verdict::Trouble(_)), "{status}");
        }
    }

    #[test]
    fn a_doubt_is_the_event_s_fault_only_if_others_are_taken() {
        let doubt = || (verdict(403, "not this tenant"), "bad");
        let (settled, problem) = outcomes(vec![doubt(), (Verdict::Taken, "good")]);
        assert!(problem.is_none(), "{problem:?}");
        assert!(matches!(&settled[..], [(Verdict::Refused(_), "bad"), (Verdict::Taken, "good")]));
        let (settled, problem) = outcomes(vec![doubt(), (verdict(400, ""), "worse")]);
        assert!(problem.is_some_and(|why| why.contains("not this tenant")));
        assert!(matches!(&settled[..], [(Verdict::Refused(_), "worse")]));
    }
}
