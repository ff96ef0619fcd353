//! Events of usage and an endpoint that is down, refuses, is slow, or is talking when the agent dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use wharf_shared::outbox::OutboxView;
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, Quality, UsageHour};
use wharf_store::outbox as rows;

use super::world::World;
use crate::ctx::Ctx;
use crate::outbox::Outbox;
use crate::tasks::{OnEnd, Tasks};

/// What the endpoint does with a request, by its number.
type Manners = fn(usize) -> StatusCode;

/// An endpoint outside.
#[derive(Clone)]
struct Receiver {
    manners: Arc<Mutex<Manners>>,
    /// Answers from this request on are never given.
    silent_from: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    asked: Arc<Notify>,
    /// The bytes that came for each id.
    bodies: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    tokens: Arc<Mutex<BTreeSet<String>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let number = receiver.requests.fetch_add(1, Ordering::SeqCst);
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    receiver.tokens.lock().expect("tokens").insert(token.to_owned());
    let status = (*receiver.manners.lock().expect("manners"))(number);
    // What is silent has taken the event all the same.
    if status.is_success() {
        let event: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let id = event["id"].as_str().expect("an id").to_owned();
        receiver.bodies.lock().expect("bodies").entry(id).or_default().insert(body);
    }
    receiver.asked.notify_one();
    if number >= receiver.silent_from.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    status
}

impl Receiver {
    async fn start(manners: Manners) -> (Self, String) {
        let receiver = Self {
            manners: Arc::new(Mutex::new(manners)),
            silent_from: Arc::new(AtomicUsize::new(usize::MAX)),
            requests: Arc::default(),
            asked: Arc::default(),
            bodies: Arc::default(),
            tokens: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/api/v1/events", listener.local_addr().expect("an address"));
        let router = Router::new().route("/api/v1/events", post(receive)).with_state(receiver.clone());
        Tasks::default().spawn("endpoint", OnEnd::Fine, async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        (receiver, url)
    }

    fn set(&self, manners: Manners) {
        *self.manners.lock().expect("manners") = manners;
    }

    /// How many events came; each always with the same bytes.
    fn taken(&self) -> usize {
        let bodies = self.bodies.lock().expect("bodies");
        assert!(bodies.values().all(|bytes| bytes.len() == 1), "an id with other bytes: {bodies:?}");
        bodies.len()
    }
}

async fn world(url: &str) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let world = World::with(|config| {
        config.outbox.url = url.to_owned();
        config.outbox.token_file = token;
        config.outbox.timeout_s = 1;
    })
    .await;
    drop(dir);
    world
}

/// Usage of so many containers in the hour before this one.
async fn use_something(world: &World, (from, to): (i64, i64), containers: u32) {
    let hour = Timestamp(world.app.clock.now().hour_start().0 - HOUR_US);
    let additions: Vec<UsageHour> = (0..containers)
        .map(|number| UsageHour {
            hour,
            tenant: "tnt_00000000-0000-7000-8000-000000000001".parse().expect("an id"),
            container: Some(format!("{number:064x}").parse().expect("an id")),
            meter: Meter::CpuUsed,
            tenant_name: "blue".to_owned(),
            container_name: "web".to_owned(),
            labels: [].into(),
            quantity: u128::from(number) + 1,
            quality: Quality::Measured,
        })
        .collect();
    let mut tx = world.app.db.begin().await.expect("begins");
    let host = world.app.metering.host();
    rows::gather(
        &mut tx,
        host,
        (from, to),
        &additions.into_iter().map(Into::into).collect::<Vec<_>>(),
        10_000,
        hour,
    )
    .await
    .expect("gathers");
    tx.commit().await.expect("committed");
    world.clock.advance(HOUR_US);
}

async fn view(world: &World) -> OutboxView {
    world.app.outbox.view(&Ctx::system("test")).await.expect("a view")
}

#[tokio::test]
async fn while_the_endpoint_is_down_or_in_trouble_events_wait() {
    let world = world("http://127.0.0.1:1/").await;
    use_something(&world, (0, 1), 30).await;
    world.app.outbox.turn().await;
    world.app.outbox.turn().await;
    let seen = view(&world).await;
    assert_eq!((seen.queued, seen.sent, seen.failures), (30, 0, 2));
    assert!(seen.problem.is_some() && seen.oldest_queued_hour.is_some());
}

#[tokio::test]
async fn what_fails_is_sent_again_with_the_same_bytes_and_then_it_is_gone() {
    let (receiver, url) =
        Receiver::start(
            |number| if number % 3 == 0 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK },
        )
        .await;
    let world = world(&url).await;
    use_something(&world, (0, 1), 30).await;
    for turn in 0.. {
        assert!(turn < 40, "it does not come to an end: {:?}", view(&world).await);
        world.app.outbox.turn().await;
        if view(&world).await.queued == 0 {
            break;
        }
    }
    assert_eq!(receiver.taken(), 30);
    let seen = view(&world).await;
    assert_eq!((seen.gathering, seen.queued, seen.sent, seen.failures), (0, 0, 30, 0));
    assert_eq!(*receiver.tokens.lock().expect("tokens"), ["Bearer s3cret".to_owned()].into());
    // The same stretch of the journal again makes no event, a later one makes events of their own.
    use_something(&world, (0, 1), 30).await;
    world.app.outbox.turn().await;
    assert_eq!(receiver.taken(), 30);
}

#[tokio::test]
async fn a_wrong_token_refuses_no_event_but_a_bad_event_is_refused_and_shown() {
    let (receiver, url) = Receiver::start(|_| StatusCode::UNAUTHORIZED).await;
    let world = world(&url).await;
    use_something(&world, (0, 1), 3).await;
    world.app.outbox.turn().await;
    let seen = view(&world).await;
    assert_eq!((seen.queued, seen.refused), (3, 0));
    assert!(seen.problem.is_some_and(|problem| problem.contains("401")));
    receiver.set(|_| StatusCode::UNPROCESSABLE_ENTITY);
    world.app.outbox.turn().await;
    let seen = view(&world).await;
    assert_eq!((seen.queued, seen.refused, seen.failures), (0, 3, 0));
    assert!(seen.last_refused.iter().all(|event| event.problem.contains("422")));
    receiver.set(|_| StatusCode::OK);
    world.app.outbox.turn().await;
    assert_eq!(receiver.taken(), 0, "what was refused is not sent again by itself");
    assert_eq!(world.app.outbox.retry(&Ctx::system("test")).await.expect("queued").queued, 3);
    world.app.outbox.turn().await;
    assert_eq!((receiver.taken(), view(&world).await.refused), (3, 0));
}

#[tokio::test]
async fn one_event_that_is_not_taken_holds_up_no_other() {
    let forbidden = |number| if number == 0 { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let (receiver, url) = Receiver::start(forbidden).await;
    let world = world(&url).await;
    use_something(&world, (0, 1), 40).await;
    world.app.outbox.turn().await;
    let seen = view(&world).await;
    assert_eq!((seen.queued, seen.refused, receiver.taken()), (0, 1, 39), "{:?}", seen.problem);
    assert!(seen.last_refused.iter().all(|event| event.problem.contains("403")));
    // What the endpoint knows already, it has.
    receiver.set(|_| StatusCode::CONFLICT);
    world.app.outbox.retry(&Ctx::system("test")).await.expect("queued");
    world.app.outbox.turn().await;
    let seen = view(&world).await;
    assert_eq!((seen.queued, seen.refused, seen.sent), (0, 0, 40));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_none() {
    let (receiver, url) = Receiver::start(|_| StatusCode::OK).await;
    let world = world(&url).await;
    use_something(&world, (0, 1), 3).await;
    receiver.silent_from.store(0, Ordering::SeqCst);
    world.app.outbox.turn().await;
    assert_eq!(view(&world).await.queued, 3);
    receiver.silent_from.store(usize::MAX, Ordering::SeqCst);
    world.app.outbox.turn().await;
    assert_eq!((receiver.taken(), view(&world).await.queued), (3, 0));
}

#[tokio::test]
async fn an_agent_that_dies_while_it_sends_loses_nothing() {
    const EVENTS: u32 = 300;
    let (receiver, url) = Receiver::start(|_| StatusCode::OK).await;
    let world = world(&url).await;
    use_something(&world, (0, 1), EVENTS).await;
    let said = &world.app.config.outbox;
    let said = crate::config::Outbox { token_file: std::path::PathBuf::new(), ..said.clone() };
    for death in 0..12 {
        // The next answers do not come, so it is in the middle of sending when it dies.
        let requests = receiver.requests.load(Ordering::SeqCst);
        receiver.silent_from.store(requests + death * 7, Ordering::SeqCst);
        let (host, clock) = (world.app.metering.host().clone(), Arc::clone(&world.app.clock));
        let (db, events) = (world.app.db.clone(), world.app.events.clone());
        let agent =
            Outbox::new(&said, (host, &format!("boot-{death}")), db, clock, events).expect("an agent");
        let is_silent = async {
            while receiver.requests.load(Ordering::SeqCst) <= requests + death * 7 {
                receiver.asked.notified().await;
            }
        };
        // It is dropped where it stands.
        tokio::select! {
            () = agent.turn() => panic!("it came to its end without an answer"),
            () = is_silent => {}
        }
    }
    receiver.silent_from.store(usize::MAX, Ordering::SeqCst);
    world.app.outbox.turn().await;
    assert_eq!((receiver.taken(), view(&world).await.queued), (EVENTS as usize, 0));
    assert!(
        receiver.requests.load(Ordering::SeqCst) > EVENTS as usize,
        "none was sent twice: nothing was tried"
    );
}
