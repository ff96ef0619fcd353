//! Budgets and containers that really burn CPU: what is spent is held to its budget, and goes on when it may.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_billing::amount::Amount;
use wharf_e2e::{World, run, run_with};
use wharf_shared::billing::PriceBookView;
use wharf_shared::budget::{BudgetAction, BudgetView, NoticeState};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::event::{AuditView, EventView};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;

/// Burns CPU until it is ended.
const BURN: &[&str] = &["sh", "-c", "while :; do :; done"];
/// Half a CPU: half a EUR a second.
const HALF: u32 = 500;
/// How often readings are stored.
const INTERVAL: &[&str] = &["metering.journal_interval_ms=500"];

/// A tenant that pays 1 EUR for a second of CPU.
fn tenant(world: &World) -> Result<TenantView> {
    let tenant = world.tenant("acme")?;
    let book = json!({ "currency": "EUR", "effective_from": tenant.created_at.hour_start(),
        "prices": [{ "meter": "cpu_used", "unit_price": "1" }] });
    let _: PriceBookView = world.api().post("/billing/price-books", &book)?;
    Ok(tenant)
}

fn set(world: &World, amount: &str, thresholds: &Value) -> Result<BudgetView> {
    let body = json!({ "amount": amount, "currency": "EUR", "thresholds": thresholds });
    let text = world.api().send(Method::PUT, "/budgets/acme", Some(&body))?.success()?;
    Ok(serde_json::from_str(&text)?)
}

fn budget(world: &World) -> Result<BudgetView> {
    world.api().get("/budgets/acme")
}

fn burner(world: &World, tenant: &TenantView) -> Result<ContainerView> {
    world.start(tenant, BURN, json!({ "limits": { "cpu_millis": HALF } }))
}

fn until_state(world: &World, view: &ContainerView, state: ContainerState) -> Result<ContainerView> {
    world.container_until(view.id.as_str(), state.as_str(), |view| view.state == state)
}

/// How often each threshold was told; by events, and the same by the audit trail.
fn told(world: &World) -> Result<Vec<String>> {
    const KIND: &str = "budget.threshold_reached";
    let percent = |detail: &std::collections::BTreeMap<String, String>| detail.get("percent").cloned();
    let events: Page<EventView> = world.api().get("/events?limit=1000")?;
    let events = events.items.iter().filter(|event| event.kind == KIND);
    let events: Vec<_> = events.filter_map(|event| percent(&event.detail)).collect();
    let audit: Page<AuditView> = world.api().get("/audit?limit=1000")?;
    let audit = audit.items.iter().rev().filter(|entry| entry.action == KIND);
    let audit: Vec<_> = audit.filter_map(|entry| percent(&entry.detail)).collect();
    ensure!(events == audit, "events say {events:?}, the audit trail {audit:?}");
    Ok(events)
}

/// What was spent, and by how much that is above the budget: by no more than the bound.
fn spent(world: &World, bound: &str) -> Result<(Amount, Amount)> {
    let view = budget(world)?;
    let (spent, amount) = (Amount::from(&view.spent), Amount::from(&view.budget.amount));
    let over = spent.minus(&amount);
    ensure!(
        !over.is_negative() && over <= bound.parse()?,
        "{spent} EUR spent of {amount}; the bound is {bound}"
    );
    Ok((spent, over))
}

#[test]
fn what_runs_is_paused_when_the_budget_is_spent_and_goes_on_when_it_is_raised() -> Result<()> {
    run_with(INTERVAL, |world| {
        let tenant = tenant(world)?;
        let thresholds = json!([{ "percent": 50 }, { "percent": 100, "actions": ["freeze"] }]);
        let idle = world.start(&tenant, &["sleep", "1000"], json!({ "limits": { "cpu_millis": HALF } }))?;
        world.api().act(&format!("/containers/{}/pause", idle.id), &json!({}))?;
        set(world, "3", &thresholds)?;
        let (first, second) = (burner(world, &tenant)?, burner(world, &tenant)?);
        // Three halves of a CPU for half a second and two more.
        let bound = budget(world)?.overshoot_limit;
        assert_eq!(bound.as_str(), "3.75");
        for view in [&first, &second] {
            let paused = until_state(world, view, ContainerState::Paused)?;
            ensure!(paused.error.as_ref().is_some_and(|why| why.contains("acme")), "{:?}", paused.error);
        }
        let (spent, over) = spent(world, bound.as_str())?;
        eprintln!("{over} EUR spent beyond a budget that freezes; the bound is {bound}");
        world.pause(Duration::from_secs(2));
        assert_eq!(Amount::from(&budget(world)?.spent), spent, "what is paused costs nothing");
        assert_eq!(told(world)?, ["50", "100"]);

        let spec = world.spec(&tenant, BURN, json!({}))?;
        let resume = format!("/containers/{}/resume", first.id);
        for (path, body) in [("/containers?start=true", Some(&spec)), (resume.as_str(), None)] {
            let problem = world.api().refused(Method::POST, path, body)?;
            assert_eq!(problem.kind, ProblemKind::BudgetExceeded, "{problem}");
            ensure!(problem.detail.contains("wharf budget set acme"), "{problem}");
        }

        set(world, "1000", &thresholds)?;
        for view in [&first, &second] {
            let again = until_state(world, view, ContainerState::Running)?;
            ensure!(again.pid == view.pid && again.error.is_none(), "{again:?}");
        }
        world.until("they burn again", || Ok(Amount::from(&budget(world)?.spent) > spent))?;
        let idle = until_state(world, &idle, ContainerState::Paused)?;
        ensure!(
            idle.error.is_none(),
            "what its user has paused is no business of a budget: {:?}",
            idle.error
        );

        // A budget that is taken away holds nothing back either.
        set(world, "1", &thresholds)?;
        until_state(world, &first, ContainerState::Paused)?;
        world.api().delete("/budgets/acme")?;
        until_state(world, &first, ContainerState::Running)?;
        assert_eq!(until_state(world, &idle, ContainerState::Paused)?.state, ContainerState::Paused);
        Ok(())
    })
}

#[test]
fn what_runs_is_stopped_when_the_budget_is_spent_and_nothing_starts_it_again() -> Result<()> {
    run_with(INTERVAL, |world| {
        let tenant = tenant(world)?;
        let always = json!({ "restart": "always", "limits": { "cpu_millis": HALF } });
        // Nothing that a program does keeps it running.
        let stubborn = ["sh", "-c", "trap '' TERM; while :; do :; done"];
        let view = world.start(&tenant, &stubborn, always.clone())?;
        let crashes = ["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 1"];
        let crashing = world.start(&tenant, &crashes, always)?;
        let thresholds =
            json!([{ "percent": 80, "actions": ["refuse_starts"] }, { "percent": 100, "actions": ["stop"] }]);
        set(world, "3", &thresholds)?;
        let ended = world.ended(view.id.as_str())?;
        assert_eq!(ended.exit.context("an end")?.signal, Some(9));
        let crashed = world.container_until(crashing.id.as_str(), "it is down", |view| {
            matches!(view.state, ContainerState::Failed | ContainerState::Exited)
        })?;
        // Two halves of a CPU, one of which crashes now and then.
        let (_, over) = spent(world, "2.5")?;
        eprintln!("{over} EUR spent beyond a budget that stops; the bound is 2.5");
        assert_eq!(budget(world)?.in_force, [BudgetAction::RefuseStarts, BudgetAction::Stop]);
        world.pause(Duration::from_secs(2));
        for view in [&ended.id, &crashed.id] {
            let view: ContainerView = world.api().get(&format!("/containers/{view}"))?;
            ensure!(!view.state.is_live() && view.state != ContainerState::Restarting, "{view:?}");
        }
        let start = format!("/containers/{}/start", view.id);
        assert_eq!(world.api().refused(Method::POST, &start, None)?.kind, ProblemKind::BudgetExceeded);
        set(world, "1000", &thresholds)?;
        world.until("it may start again", || {
            Ok(world.api().send(Method::POST, &start, None)?.status.is_success())
        })?;
        Ok(())
    })
}

#[test]
fn an_agent_killed_between_decision_and_deed_does_it_after_its_start_and_tells_once() -> Result<()> {
    ensure!(cfg!(debug_assertions), "only debug builds can be killed at a point");
    run_with(INTERVAL, |world| {
        let tenant = tenant(world)?;
        let (bodies, url) = receiver()?;
        let thresholds = json!([{ "percent": 100, "actions": ["freeze", "webhook"] }]);
        for (number, point) in ["agent.budget.decided", "agent.budget.held"].into_iter().enumerate() {
            let view = burner(world, &tenant)?;
            world.arm(point)?;
            // The second is spent at once, so the agent may die before it answers.
            let body =
                json!({ "amount": "1", "currency": "EUR", "thresholds": thresholds, "webhook_url": url });
            world.api().send_and_leave(Method::PUT, "/budgets/acme", Some(&body), Duration::from_secs(10));
            world.killed()?;
            world.bury_agent()?;
            ensure!(world.process_runs(view.pid)?, "it ended with the agent");
            world.start_agent()?;
            until_state(world, &view, ContainerState::Paused)?;
            assert_eq!(told(world)?.len(), number + 1, "{point}");
            world.until("the webhook is taken", || {
                let notice = budget(world)?.reached.first().context("a threshold")?.notice;
                Ok(notice == NoticeState::Sent)
            })?;
            world.kill_agent()?;
            world.start_agent()?;
            until_state(world, &view, ContainerState::Paused)?;
            assert_eq!(told(world)?.len(), number + 1, "{point}");
            world.api().delete("/budgets/acme")?;
            until_state(world, &view, ContainerState::Running)?;
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        let ids = bodies.try_iter().map(|body: Value| body["id"].to_string());
        let ids: std::collections::BTreeSet<_> = ids.collect();
        assert_eq!(ids.len(), 2, "one for each budget: {ids:?}");
        world.no_container_is_left()?;
        world.every_reading_is_there()
    })
}

#[test]
fn the_command_line_sets_shows_lists_and_removes_budgets() -> Result<()> {
    run(|world| {
        tenant(world)?;
        let at =
            ["--at", "50:webhook", "--at", "100:refuse-starts,freeze", "--webhook", "http://localhost:1/"];
        let set = [&["budget", "set", "acme", "--amount", "12.50"][..], &at].concat();
        assert_eq!(world.said(&set)?.trim(), "acme");
        let shown = world.said(&["budget", "show", "acme"])?;
        for part in ["12.5", "EUR", "spent 0", "refuse-starts, freeze", "http://localhost:1/"] {
            ensure!(shown.contains(part), "{part} is not in {shown}");
        }
        let listed = world.said(&["budget", "list"])?;
        ensure!(listed.contains("acme") && listed.contains("OVERSHOOT"), "{listed}");
        let view: BudgetView = serde_json::from_str(&world.said(&["--json", "budget", "show", "acme"])?)?;
        assert_eq!(view.budget.thresholds.len(), 2);
        for (bad, word) in [
            (["--amount", "-1", "--currency", "EUR"], "amount"),
            (["--amount", "1", "--currency", "USD"], "price books are in EUR"),
        ] {
            let output = world.wharf(&[&["budget", "set", "acme"][..], &bad].concat())?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && said.contains(word), "{said}");
        }
        world.said(&["budget", "remove", "acme"])?;
        let gone = world.wharf(&["budget", "show", "acme"])?;
        ensure!(String::from_utf8_lossy(&gone.stderr).contains("no budget"), "{gone:?}");
        Ok(())
    })
}

/// An endpoint that takes every webhook; its bodies, and its address.
fn receiver() -> Result<(mpsc::Receiver<Value>, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let taken = (|| -> Result<Value> {
                let mut reader = BufReader::new(stream.try_clone()?);
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line)? > 0 && line.trim() != "" {
                    let header = line.to_lowercase();
                    if let Some(value) = header.strip_prefix("content-length:") {
                        length = value.trim().parse()?;
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")?;
                Ok(serde_json::from_slice(&body)?)
            })();
            match taken.map(|body| sender.send(body)) {
                Ok(Ok(())) => {}
                Ok(Err(_nobody_waits)) => return,
                // The agent got no answer, and sends it again.
                Err(_unread) => {}
            }
        }
    });
    Ok((bodies, url))
}
