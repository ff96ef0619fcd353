//! Events on their way out: counted once, kept as they are, gone when taken.

use wharf_shared::id::{HostId, TenantId};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_store::outbox::{self, Counts};
use wharf_store::usage::Addition;
use wharf_store::{Db, Tx};

use super::{NOW, container_id, id};

const MOST: u64 = 100;

fn used(tenant: &TenantId, container: Option<u64>, hour: i64, quantity: u128) -> UsageHour {
    UsageHour {
        hour: Timestamp(hour * HOUR_US),
        tenant: tenant.clone(),
        container: container.map(container_id),
        meter: Meter::CpuUsed,
        tenant_name: "blue".to_owned(),
        container_name: String::new(),
        labels: [].into(),
        quantity,
        quality: Quality::Measured,
    }
}

async fn gather(tx: &mut Tx, host: &HostId, stretch: (i64, i64), additions: &[UsageHour], most: u64) -> u64 {
    let additions: Vec<_> = additions.iter().cloned().map(Into::into).collect();
    outbox::gather(tx, host, stretch, &additions, most, NOW).await.expect("gathers")
}

async fn gathered(tx: &mut Tx, host: &HostId, last_hour: i64) -> Vec<(i64, i64, i128)> {
    let events = outbox::gathered(tx, host, Timestamp(last_hour * HOUR_US), 100).await.expect("reads");
    events.iter().map(|of| (of.key.hour.0 / HOUR_US, of.key.revision, of.quantity)).collect()
}

pub(crate) async fn additions_are_gathered_once_and_add_up(db: Db) {
    let (blue, host): (TenantId, HostId) = (id("tnt"), id("hst"));
    let mut tx = db.begin().await.expect("begins");
    let huge = 10_u128.pow(37);
    let first = [used(&blue, Some(1), 5, huge), used(&blue, Some(1), 5, 2), used(&blue, Some(1), 6, 0)];
    gather(&mut tx, &host, (0, 10), &first, MOST).await;
    gather(&mut tx, &host, (10, 20), &[used(&blue, Some(1), 5, 3), used(&blue, None, 5, 9)], MOST).await;
    // Summed up anew from the journal: nothing of it is sent anew.
    gather(&mut tx, &host, (0, 12), &first, MOST).await;
    assert_eq!(outbox::watermark(&mut tx, &host).await.expect("reads"), 20);
    assert!(outbox::gather(&mut tx, &host, (15, 25), &[], MOST, NOW).await.is_err(), "in part");
    assert_eq!(gathered(&mut tx, &host, 4).await, []);
    let whole = i128::try_from(huge).expect("fits") + 5;
    assert_eq!(gathered(&mut tx, &host, 5).await, [(5, 1, whole)]);

    // What comes after the event has its bytes is an event of its own.
    let events = outbox::gathered(&mut tx, &host, Timestamp(5 * HOUR_US), 100).await.expect("reads");
    outbox::queue(&mut tx, &host, &events[0].key, "{}", NOW).await.expect("queues");
    gather(&mut tx, &host, (20, 30), &[used(&blue, Some(1), 5, 7)], MOST).await;
    assert_eq!(gathered(&mut tx, &host, 5).await, [(5, 21, 7)]);
    assert_eq!(gathered(&mut tx, &id("hst"), 5).await, [], "another host's");

    // There is room for no more rows, but for more in those that are there.
    let more = [used(&blue, Some(1), 5, 1), used(&blue, Some(2), 5, 1), used(&blue, Some(3), 5, 1)];
    assert_eq!(gather(&mut tx, &host, (30, 40), &more, 2).await, 2);
    assert_eq!(gathered(&mut tx, &host, 5).await, [(5, 21, 8)]);
    let counts = outbox::counts(&mut tx, &host).await.expect("counts");
    let hour = Some(Timestamp(5 * HOUR_US));
    assert_eq!(counts, Counts { gathering: 1, queued: 1, refused: 0, dropped: 2, oldest_queued_hour: hour });
}

pub(crate) async fn what_is_taken_away_counts_below_zero_and_what_lacks_something_is_partial(db: Db) {
    let (blue, host): (TenantId, HostId) = (id("tnt"), id("hst"));
    let mut tx = db.begin().await.expect("begins");
    let taken = |container, taken| Addition { hour: used(&blue, Some(container), 5, 0), taken };
    gather(&mut tx, &host, (0, 1), &[used(&blue, Some(1), 5, 9)], MOST).await;
    // While the hour is gathered it comes off, and later it is an event of its own.
    outbox::gather(&mut tx, &host, (1, 2), &[taken(1, 4), taken(2, 0)], MOST, NOW).await.expect("gathers");
    assert_eq!(gathered(&mut tx, &host, 5).await, [(5, 1, 5)]);
    let events = outbox::gathered(&mut tx, &host, NOW, 100).await.expect("reads");
    outbox::queue(&mut tx, &host, &events[0].key, "{}", NOW).await.expect("queues");
    outbox::gather(&mut tx, &host, (2, 3), &[taken(1, 5)], MOST, NOW).await.expect("gathers");
    assert_eq!(gathered(&mut tx, &host, 5).await, [(5, 3, -5)]);

    // Of the sixth hour something is dropped, so what is sent of it, or of one before, says so.
    let dropped = gather(&mut tx, &host, (3, 4), &[used(&blue, Some(3), 6, 1)], 2).await;
    assert_eq!(dropped, 1);
    let later = [used(&blue, Some(3), 6, 1), used(&blue, Some(3), 7, 1), used(&blue, Some(1), 5, 1)];
    gather(&mut tx, &host, (4, 5), &later, MOST).await;
    let events = outbox::gathered(&mut tx, &host, NOW, 100).await.expect("reads");
    let qualities: Vec<_> = events.iter().map(|of| (of.key.hour.0 / HOUR_US, of.quality)).collect();
    let (whole, part) = (Quality::Measured, Quality::Partial);
    assert_eq!(qualities, [(5, whole), (6, part), (7, whole)], "a row that was there lacks nothing");
}

pub(crate) async fn an_event_keeps_its_bytes_until_it_is_taken(db: Db) {
    let (blue, host): (TenantId, HostId) = (id("tnt"), id("hst"));
    let mut tx = db.begin().await.expect("begins");
    let additions = [used(&blue, Some(1), 5, 1), used(&blue, Some(2), 5, 1), used(&blue, Some(3), 5, 1)];
    gather(&mut tx, &host, (0, 1), &additions, MOST).await;
    for event in outbox::gathered(&mut tx, &host, NOW, 100).await.expect("reads") {
        let body = format!("body of {}", event.key.container.as_str());
        outbox::queue(&mut tx, &host, &event.key, &body, NOW).await.expect("queues");
        outbox::queue(&mut tx, &host, &event.key, "other bytes", NOW).await.expect("changes nothing");
    }
    tx.commit().await.expect("committed");
    let mut tx = db.begin().await.expect("begins");
    let queued = outbox::next(&mut tx, &host, 2).await.expect("reads");
    assert_eq!(queued.len(), 2);
    assert!(queued.iter().all(|event| event.body == format!("body of {}", event.key.container.as_str())));
    outbox::taken(&mut tx, &host, &queued[0].key).await.expect("goes");
    outbox::refuse(&mut tx, &host, &queued[1].key, "400 Bad Request", NOW).await.expect("stays");
    // What was refused is not taken by an answer that comes late.
    outbox::taken(&mut tx, &host, &queued[1].key).await.expect("changes nothing");
    let rest = outbox::next(&mut tx, &host, 9).await.expect("reads");
    assert_eq!(rest.len(), 1);
    let refused = outbox::refused(&mut tx, &host, 9).await.expect("reads");
    assert_eq!(refused.len(), 1);
    assert_eq!((&refused[0].key, refused[0].problem.as_str()), (&queued[1].key, "400 Bad Request"));
    assert_eq!(outbox::retry(&mut tx, &host, NOW).await.expect("queues"), 1);
    let again = outbox::next(&mut tx, &host, 9).await.expect("reads");
    assert!(again.contains(&queued[1]) && again.len() == 2, "{again:?}");
}
