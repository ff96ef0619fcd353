//! Containers, their addresses and ports.

use std::net::Ipv4Addr;

use tokio::task::JoinSet;
use wharf_shared::container::{ContainerState, ExitView};
use wharf_shared::health::HealthStatus;
use wharf_shared::network::{PortMapping, Protocol};
use wharf_shared::time::Timestamp;
use wharf_store::containers::{self, ContainerFilter, ContainerRecord, Desired, Observed};
use wharf_store::pagination::PageRequest;
use wharf_store::{Db, Scope, StoreError, addresses, ports, tenants};

use super::{container, container_id, tenant};

pub(crate) async fn found_by_id_name_and_prefix_within_a_scope(db: Db) {
    let (blue, red) = (tenant(&db, "blue").await, tenant(&db, "red").await);
    let mut tx = db.begin().await.expect("begins");
    let web =
        ContainerRecord { tenant_name: "blue".to_owned(), ..container(&blue.id, 0xabcd_0000_0000, "web") };
    containers::insert(&mut tx, &web, &[]).await.expect("made");
    assert!(matches!(
        containers::insert(&mut tx, &container(&blue.id, 2, "web"), &[]).await,
        Err(StoreError::Taken("name"))
    ));
    containers::insert(&mut tx, &container(&red.id, 3, "web"), &[]).await.expect("another tenant's name");
    let own = Scope::Tenant(blue.id.clone());
    let other = Scope::Tenant(red.id.clone());

    assert_eq!(containers::get(&mut tx, &own, &web.id).await.expect("there"), web);
    assert!(matches!(
        containers::get(&mut tx, &other, &web.id).await,
        Err(StoreError::NotFound("container"))
    ));
    assert_eq!(containers::find(&mut tx, &own, "web").await.expect("reads"), Some(web.clone()));
    assert_eq!(containers::find(&mut tx, &own, web.id.as_str()).await.expect("reads"), Some(web.clone()));
    assert_eq!(containers::find(&mut tx, &other, web.id.as_str()).await.expect("reads"), None);
    assert!(matches!(
        containers::find(&mut tx, &Scope::All, "web").await,
        Err(StoreError::Ambiguous("container"))
    ));
    let unique: String = web.id.as_str().chars().take(60).collect();
    assert_eq!(containers::find(&mut tx, &Scope::All, &unique).await.expect("reads"), Some(web.clone()));
    assert!(matches!(
        containers::find(&mut tx, &Scope::All, "0000").await,
        Err(StoreError::Ambiguous("container"))
    ));
    assert_eq!(containers::find(&mut tx, &own, "000").await.expect("reads"), None, "too short for an id");
    assert_eq!(containers::find(&mut tx, &own, "00%0").await.expect("reads"), None);

    assert!(containers::delete(&mut tx, &web.id).await.expect("goes"));
    assert!(!containers::delete(&mut tx, &web.id).await.expect("is gone"));
    tx.commit().await.expect("committed");
}

pub(crate) async fn lists_have_pages_and_filters(db: Db) {
    let (blue, red) = (tenant(&db, "blue").await, tenant(&db, "red").await);
    let mut tx = db.begin().await.expect("begins");
    for number in 1..=7 {
        let mut made = container(&blue.id, number, &format!("Web_{number}"));
        // Three were made in the same microsecond.
        made.created_at = Timestamp(made.created_at.0.min(container(&blue.id, 5, "").created_at.0));
        made.observed.state = if number % 2 == 0 { ContainerState::Running } else { ContainerState::Exited };
        made.spec.labels.insert("number".to_owned(), number.to_string());
        containers::insert(&mut tx, &made, &[]).await.expect("made");
    }
    containers::insert(&mut tx, &container(&red.id, 8, "web-red"), &[]).await.expect("made");

    let own = Scope::Tenant(blue.id.clone());
    let everything = ContainerFilter::default();
    let (mut seen, mut page) = (Vec::new(), PageRequest { cursor: None, limit: Some(2) });
    loop {
        let found = containers::list(&mut tx, &own, &everything, &page).await.expect("reads");
        seen.extend(found.items.into_iter().map(|container| container.id));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 6, 7, 4, 3, 2, 1].map(container_id));
    assert!(
        containers::list(
            &mut tx,
            &own,
            &everything,
            &PageRequest { cursor: Some("x".to_owned()), limit: None }
        )
        .await
        .is_err()
    );

    let whole = PageRequest::whole();
    let states = vec![ContainerState::Running, ContainerState::Paused];
    let filter = ContainerFilter { states, ..ContainerFilter::default() };
    assert_eq!(containers::list(&mut tx, &own, &filter, &whole).await.expect("reads").items.len(), 3);
    for (name, count) in [("web_", 7), ("WEB-", 1), ("eb", 8), ("%", 0)] {
        let filter = ContainerFilter { name: Some(name.to_owned()), ..ContainerFilter::default() };
        let found = containers::list(&mut tx, &Scope::All, &filter, &whole).await.expect("reads");
        assert_eq!(found.items.len(), count, "{name}");
    }
    for (value, count) in [(None, 7), (Some("3".to_owned()), 1), (Some("9".to_owned()), 0)] {
        let filter =
            ContainerFilter { label: Some(("number".to_owned(), value)), ..ContainerFilter::default() };
        let found = containers::list(&mut tx, &Scope::All, &filter, &whole).await.expect("reads");
        assert_eq!(found.items.len(), count);
    }
}

pub(crate) async fn wanted_and_seen_do_not_overwrite_each_other(db: Db) {
    let blue = tenant(&db, "blue").await;
    let mut tx = db.begin().await.expect("begins");
    let made = container(&blue.id, 1, "web");
    containers::insert(&mut tx, &made, &[]).await.expect("made");
    containers::insert(&mut tx, &container(&blue.id, 2, "other"), &[]).await.expect("made");
    let read = containers::get(&mut tx, &Scope::All, &made.id).await.expect("there");

    let observed = Observed {
        state: ContainerState::Exited,
        generation: 3,
        error: Some("why".to_owned()),
        exit: Some(ExitView { code: None, signal: Some(9), oom_killed: true, supervisor_lost: false }),
        restart_count: 2,
        image_digest: Some("sha256:0".to_owned()),
        command_line: vec!["sh".to_owned(), "-c".to_owned()],
        pid: Some(42),
        address: Some(Ipv4Addr::new(10, 201, 0, 2)),
        ports: vec!["127.0.0.1:8080:80/tcp".parse().expect("a port")],
        cgroup_path: Some("wharf/t/c".to_owned()),
        started_at: Some(Timestamp(1)),
        finished_at: Some(Timestamp(2)),
        health: Some(HealthStatus::Unhealthy),
        held: true,
    };
    assert_eq!(containers::observe(&mut tx, &made.id, &observed).await.expect("there"), 2);
    let stale = ContainerRecord { desired: Desired::Stopped, ..read };
    assert!(matches!(containers::update_if(&mut tx, &stale).await, Err(StoreError::Stale("container"))));

    let mut fresh = containers::get(&mut tx, &Scope::All, &made.id).await.expect("there");
    assert_eq!(fresh.observed, observed);
    fresh.observed = Observed::default();
    fresh.desired = Desired::Stopped;
    "front".clone_into(&mut fresh.name);
    fresh.spec.limits.memory_bytes = Some(1 << 30);
    assert_eq!(containers::update_if(&mut tx, &fresh).await.expect("fresh"), 3);
    let read = containers::get(&mut tx, &Scope::All, &made.id).await.expect("there");
    assert_eq!((read.desired, read.name.as_str(), read.observed), (Desired::Stopped, "front", observed));
    assert_eq!(tenants::usage(&mut tx, &blue.id).await.expect("there").memory_bytes, 1 << 30);

    let taken = ContainerRecord { name: "other".to_owned(), version: 3, ..fresh };
    assert!(matches!(containers::update_if(&mut tx, &taken).await, Err(StoreError::Taken("name"))));
    assert!(containers::observe(&mut tx, &container_id(99), &Observed::default()).await.is_err());
}

/// Attacks: H7.
pub(crate) async fn a_quota_holds_however_many_ask_at_once(db: Db) {
    let blue = tenant(&db, "blue").await;
    let mut tasks = JoinSet::new();
    for number in 1..=12 {
        let (db, tenant) = (db.clone(), blue.id.clone());
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("begins");
            tenants::lock(&mut tx, &tenant).await.expect("there");
            let used = tenants::usage(&mut tx, &tenant).await.expect("there");
            if used.cpu_millis + 500 > 2_000 {
                return false;
            }
            let mut made = container(&tenant, number, &format!("c{number}"));
            made.spec.limits.cpu_millis = Some(500);
            containers::insert(&mut tx, &made, &[]).await.expect("made");
            tx.commit().await.expect("committed");
            true
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|made| *made).count(), 4);
    let mut tx = db.read().await.expect("begins");
    let used = tenants::usage(&mut tx, &blue.id).await.expect("there");
    assert_eq!((used.containers, used.cpu_millis, used.memory_bytes, used.volumes), (4, 2_000, 0, 0));
}

pub(crate) async fn addresses_and_ports_belong_to_one_container(db: Db) {
    let blue = tenant(&db, "blue").await;
    let mut tx = db.begin().await.expect("begins");
    for number in 1..=10 {
        let made = container(&blue.id, number, &format!("c{number}"));
        containers::insert(&mut tx, &made, &[]).await.expect("made");
    }
    tx.commit().await.expect("committed");

    let port = |text: &str| text.parse::<PortMapping>().expect("a port");
    let address = Ipv4Addr::new(10, 201, 0, 2);
    let mut tasks = JoinSet::new();
    for number in 1..=10 {
        let (db, tenant) = (db.clone(), blue.id.clone());
        let published = if number % 2 == 0 { port("8080:80") } else { port("127.0.0.1:8080:80") };
        tasks.spawn(async move {
            let id = container_id(number);
            let mut tx = db.begin().await.expect("begins");
            let got_address = addresses::take(&mut tx, &tenant, &id, address).await.is_ok();
            tx.commit().await.expect("committed");
            let mut tx = db.begin().await.expect("begins");
            let got_port = ports::take(&mut tx, &id, &[published]).await.is_ok();
            tx.commit().await.expect("committed");
            (got_address, got_port)
        });
    }
    let got = tasks.join_all().await;
    assert_eq!(got.iter().filter(|(address, _)| *address).count(), 1);
    assert_eq!(got.iter().filter(|(_, port)| *port).count(), 1, "every address excludes one address");

    let mut tx = db.begin().await.expect("begins");
    let holder = ports::list(&mut tx).await.expect("reads").remove(0).0;
    assert_eq!(ports::in_use(&mut tx, Protocol::Tcp).await.expect("reads"), [8080]);
    assert_eq!(ports::in_use(&mut tx, Protocol::Udp).await.expect("reads"), Vec::<u16>::new());
    assert_eq!(ports::release(&mut tx, &holder).await.expect("releases"), 1);
    let several = [port("127.0.0.1:53:53/udp"), port("127.0.0.2:53:53/udp"), port("127.0.0.1:53:53/tcp")];
    ports::take(&mut tx, &holder, &several).await.expect("none excludes another");
    let mut held = ports::of_container(&mut tx, &holder).await.expect("reads");
    held.sort_by_key(ToString::to_string);
    assert_eq!(held.len(), 3);
    assert!(matches!(
        ports::take(&mut tx, &holder, &[port("0.0.0.0:53:53/udp")]).await,
        Err(StoreError::Taken("port"))
    ));
    assert!(ports::take(&mut tx, &holder, &[port("80")]).await.is_err(), "no host port was chosen");

    assert_eq!(addresses::of_tenant(&mut tx, &blue.id).await.expect("reads"), [address]);
    let mut owner = None;
    for id in (1..=10).map(container_id) {
        if addresses::find(&mut tx, &id).await.expect("reads").is_some() {
            owner = Some(id);
        }
    }
    let owner = owner.expect("one of them");
    assert!(
        addresses::take(&mut tx, &blue.id, &owner, Ipv4Addr::new(10, 201, 0, 3)).await.is_err(),
        "one is enough"
    );
    containers::delete(&mut tx, &owner).await.expect("goes");
    containers::delete(&mut tx, &holder).await.expect("goes");
    assert!(addresses::of_tenant(&mut tx, &blue.id).await.expect("reads").is_empty());
    assert!(ports::list(&mut tx).await.expect("reads").is_empty());
    tx.commit().await.expect("committed");
}
