//! The multiplexed WebSocket and the event stream: resumed without gap or repeat, walled, unhurried.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{Live, run};
use wharf_shared::container::ContainerView;
use wharf_shared::event::{AuditView, EventView};
use wharf_shared::image::{LayerPhase, PullState, PullView};
use wharf_shared::live::{ServerFrame, Topic, TopicItem};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;

#[test]
fn two_topics_resume_after_a_lost_connection_without_gap_or_repeat() -> Result<()> {
    const LINES: usize = 600;
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.002; done");
        let view = world.start(&tenant, &["sh", "-c", &script], json!({}))?;
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let (mut cursor, mut seq) = (None, Some(0));
        // Two connections that break in the middle, and one that reads to the end.
        for goal in [LINES / 4, LINES / 2, LINES] {
            let mut live = Live::open(world.api())?;
            let logs = Topic::Logs { container: view.id.clone(), after: cursor, tail: None };
            live.subscribe(7, logs)?;
            live.subscribe(8, Topic::Events { after: seq })?;
            let events_before = events.len();
            live.items_until(|sub, item| {
                match item {
                    TopicItem::Log(line) => {
                        assert_eq!(sub, 7);
                        assert!(
                            cursor.is_none_or(|cursor| line.cursor > cursor),
                            "{line:?} after {cursor:?}"
                        );
                        cursor = Some(line.cursor);
                        lines.push(line.text);
                    }
                    TopicItem::Event(event) => {
                        assert_eq!(sub, 8);
                        seq = Some(event.seq);
                        events.push(event);
                    }
                    other => panic!("nobody asked for {other:?}"),
                }
                lines.len() >= goal && events.len() > events_before
            })?;
            drop(live);
            // Happens while nobody listens.
            world.tenant(&format!("tenant{goal}"))?;
        }
        let wanted: Vec<_> = (1..=LINES).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, wanted);
        contiguous(&events)?;
        for kind in ["container.created", "container.started"] {
            ensure!(events.iter().any(|event| event.kind == kind), "no {kind} in {events:?}");
        }
        ensure!(events.iter().any(|event| event.subject_name == "tenant150"), "{events:?}");
        Ok(())
    })
}

#[test]
fn a_pull_s_progress_is_shown_as_it_goes() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let image = world.busybox()?;
        let mut live = Live::open(world.api())?;
        live.subscribe(1, Topic::Pulls)?;
        let body = json!({ "image": image, "tenant": tenant.id });
        let pull: PullView = world.api().post("/images/pull", &body)?;
        let mut last = None;
        live.items_until(|_, item| {
            let TopicItem::Pull(view) = item else { panic!("no pull but {item:?}") };
            assert_eq!((&view.id, &view.image), (&pull.id, &pull.image));
            let ended = matches!(view.state, PullState::Done | PullState::Failed);
            last = Some(view);
            ended
        })?;
        let last = last.context("progress")?;
        assert_eq!((last.state, last.layers.len()), (PullState::Done, 1), "{last:?}");
        let layer = last.layers.first().context("a layer")?;
        assert_eq!(
            (layer.phase, Some(layer.current_bytes)),
            (LayerPhase::Done, layer.total_bytes),
            "{layer:?}"
        );
        Ok(())
    })
}

/// Attacks: H6.
#[test]
fn topics_of_another_tenant_are_refused() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let other = world.tenant("other")?;
        let secret = world.start(&acme, &["sh", "-c", "echo secret; exec sleep 1000"], json!({}))?;
        let own = world.start(&other, &["sleep", "1000"], json!({}))?;
        let member = world.member(&other)?;
        let mut live = Live::open(&member)?;
        let foreign = [
            Topic::Logs { container: secret.id.clone(), after: None, tail: None },
            Topic::Metrics { container: Some(secret.id.clone()) },
        ];
        for (sub, topic) in (1..).zip(foreign) {
            live.subscribe(sub, topic)?;
            match live.frame()? {
                ServerFrame::Refused { sub: Some(refused), problem } => {
                    assert_eq!((refused, problem.kind), (sub, ProblemKind::NotFound));
                    ensure!(!problem.to_string().contains("secret"), "{problem}");
                }
                frame => panic!("topic {sub} was not refused: {frame:?}"),
            }
        }
        // What covers everything covers only what is one's own.
        live.subscribe(3, Topic::Metrics { container: None })?;
        live.subscribe(4, Topic::Events { after: Some(0) })?;
        let (mut points, mut events) = (0, 0);
        live.items_until(|_, item| {
            match item {
                TopicItem::Metrics(point) => {
                    assert_eq!(point.container, own.id);
                    points += 1;
                }
                TopicItem::Event(event) => {
                    assert_eq!(event.tenant.as_ref(), Some(&other.id), "{event:?}");
                    events += 1;
                }
                item => panic!("nobody asked for {item:?}"),
            }
            points >= 2 && events >= 1
        })?;
        // Without a token there is no socket at all.
        ensure!(Live::open(&world.stranger()).is_err(), "a stranger has a socket");
        Ok(())
    })
}

/// Attacks: F4.
#[test]
fn a_reader_that_does_not_read_blocks_nobody_and_misses_nothing() -> Result<()> {
    const LINES: usize = 6_000;
    run(|world| {
        let tenant = world.tenant("acme")?;
        // 12 MB: more than the buffers of a connection hold, less than the log keeps.
        let program = format!(
            "BEGIN {{ getline; while (length(s) < 2000) s = s \"x\"; for (i = 1; i <= {LINES}; i++) print i, s }}"
        );
        let view = world.start(&tenant, &["awk", &program], json!({ "stdin": true }))?;
        let mut slow = Live::open(world.api())?;
        slow.subscribe(1, Topic::Logs { container: view.id.clone(), after: Some(0), tail: None })?;
        let path = format!("/containers/{}/attach?stdin=true", view.id);
        let mut stdin = wharf_e2e::Socket::open(world.api(), &path)?;
        stdin.stdin("go\n")?;
        // It writes all of it and ends, though two readers stand still: this socket has its output too.
        let ended = world.ended(view.id.as_str())?;
        assert_eq!(ended.exit.context("an exit")?.code, Some(0));
        // Another reader is served at once.
        let mut quick = Live::open(world.api())?;
        quick.subscribe(1, Topic::Logs { container: view.id.clone(), after: None, tail: Some(1) })?;
        let last = format!("{LINES} ");
        quick.items_until(|_, item| matches!(item, TopicItem::Log(line) if line.text.starts_with(&last)))?;
        let mut next = 1;
        slow.items_until(|_, item| {
            let TopicItem::Log(line) = item else { panic!("no line but {item:?}") };
            assert!(line.text.starts_with(&format!("{next} ")), "line {next} is {:.20}", line.text);
            next += 1;
            next > LINES
        })
    })
}

#[test]
fn the_event_stream_resumes_over_a_killed_agent_and_each_change_has_its_audit_row() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let first = world.start(&tenant, &["sleep", "1000"], json!({ "name": "first" }))?;
        let started = |event: &EventView| event.kind == "container.started";
        let mut events = world.api().events_until("/events?after=0", None, started)?;
        // Happens while nobody listens; then the agent dies.
        world.api().delete(&format!("/containers/{}?force=true", first.id))?;
        let second = world.start(&tenant, &["sleep", "1000"], json!({ "name": "second" }))?;
        world.kill_agent()?;
        world.start_agent()?;
        let seq = events.last().context("events")?.seq;
        let adopted = |event: &EventView| event.kind == "container.adopted";
        events.extend(world.api().events_until("/events?follow=true", Some(seq), adopted)?);
        contiguous(&events)?;
        let told = |kind: &str, view: &ContainerView| {
            let of = |event: &&EventView| event.kind == kind && event.subject == view.id.as_str();
            events.iter().filter(of).count()
        };
        for (kind, view) in [
            ("container.created", &first),
            ("container.started", &first),
            ("container.removed", &first),
            ("container.created", &second),
            ("container.started", &second),
            ("container.adopted", &second),
        ] {
            assert_eq!(told(kind, view), 1, "{kind} of {}: {events:?}", view.name);
        }
        // Who did it is written down.
        let audit: Page<AuditView> = world.api().get("/audit?limit=100")?;
        let deed = |action: &str, subject: &str| {
            audit.items.iter().find(|row| row.action == action && row.subject == subject)
        };
        for action in ["container.create", "container.remove"] {
            let row = deed(action, first.id.as_str()).with_context(|| format!("{action}: {audit:?}"))?;
            assert_eq!((row.actor.as_str(), row.outcome.as_str()), ("admin", "done"), "{row:?}");
        }
        Ok(())
    })
}

/// Numbers of an admin's events follow one another, each one once.
fn contiguous(events: &[EventView]) -> Result<()> {
    for pair in events.windows(2) {
        let [before, after] = pair else { continue };
        ensure!(after.seq == before.seq + 1, "{before:?} is followed by {after:?}");
    }
    Ok(())
}
