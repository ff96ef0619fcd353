//! What was used is what the kernel counted, and what it costs is exact.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wharf_e2e::{Postgres, World, run, run_with};
use wharf_shared::billing::PriceBookView;
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::page::Page;
use wharf_shared::reading::{ReadingKind, ReadingRecord};
use wharf_shared::usage::{Meter, Quality};

/// Burns CPU in the shell itself and prints what the kernel counted for it.
const BURN: &str = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; times";
/// Start and end of the process, which `times` cannot see.
const TOLERANCE_NS: u128 = 40_000_000;

#[test]
fn a_known_cpu_time_is_on_the_bill() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.script(
            &tenant,
            BURN,
            json!({ "limits": { "cpu_millis": 2000, "memory_bytes": 64 << 20 } }),
        )?;
        let counted = World::cpu_time_ns(&world.logs(view.id.as_str())?)?;
        ensure!(counted > 100_000_000, "the script burnt only {counted} ns");
        let used = world.quantity(&view, Meter::CpuUsed)?;
        assert!(
            used >= counted && used - counted < TOLERANCE_NS,
            "times says {counted} ns, the bill {used} ns"
        );
        // A limit of 2000 thousandths over the container's life.
        let lived_us = view.finished_at.context("an end")?.0 - view.started_at.context("a start")?.0;
        let lived_ns = u128::try_from(lived_us)? * 1_000;
        let reserved = world.quantity(&view, Meter::CpuReserved)? / 2_000;
        assert!(reserved.abs_diff(lived_ns) < 200_000_000, "lived {lived_ns} ns, reserved {reserved} ns");
        Ok(())
    })
}

/// Runs one process that uses between 10 and 500 ms of CPU, all of it in the shell itself.
fn spin(rounds: u128) -> String {
    format!("i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); done")
}

/// Every way in which a first process comes into its cgroup, and how often it does.
fn start_paths() -> [(&'static str, Value, usize); 6] {
    [
        ("bridge", json!({}), 1),
        ("no network", json!({ "network": "none" }), 1),
        ("terminal", json!({ "terminal": true }), 1),
        ("stdin", json!({ "stdin": true }), 1),
        ("init", json!({ "init": true }), 1),
        ("started again", json!({ "restart": { "on_failure": { "max_retries": 1 } } }), 2),
    ]
}

#[test]
fn every_short_container_is_billed_to_the_microsecond() -> Result<()> {
    const SAMPLE: u128 = 100_000;
    const MILLISECOND_NS: u128 = 1_000_000;
    const BATCH: u128 = 6;
    let count: u128 = if std::env::var_os("WHARF_SOAK").is_some() { 1_000 } else { 42 };
    run(|world| {
        let tenant = world.tenant("acme")?;
        let sample = world.script(&tenant, &spin(SAMPLE), json!({}))?;
        let sample_ns = world.quantity(&sample, Meter::CpuUsed)?;
        let (mut largest_ns, mut least_ns, mut most_ns) = (0, u128::MAX, 0);
        for batch in (0..count).collect::<Vec<_>>().chunks(usize::try_from(BATCH)?) {
            // Several at once, so that they end in the middle of each other's readings.
            let mut started = Vec::new();
            for (number, (path, more, starts)) in batch.iter().zip(start_paths().into_iter().cycle()) {
                let wanted_ns = 10 * MILLISECOND_NS + number * 490 * MILLISECOND_NS / count;
                let rounds = (SAMPLE * wanted_ns / sample_ns).max(1);
                let script = format!("{}; exit {}", spin(rounds), starts - 1);
                started.push((path, starts, world.start(&tenant, &["sh", "-c", &script], more)?));
            }
            for (path, starts, view) in started {
                let (used_ns, waited_ns) = counted_and_waited(world, &view, starts)
                    .with_context(|| format!("{} ({path})", view.name))?;
                let difference_ns = used_ns.abs_diff(waited_ns);
                ensure!(
                    difference_ns <= 1_000 * starts as u128,
                    "{} ({path}): wait4 says {waited_ns} ns, the bill {used_ns} ns",
                    view.name
                );
                largest_ns = largest_ns.max(difference_ns);
                (least_ns, most_ns) = (least_ns.min(used_ns), most_ns.max(used_ns));
            }
        }
        eprintln!(
            "{count} containers of {least_ns} to {most_ns} ns of CPU, each recorded; the largest difference to wait4 is {largest_ns} ns"
        );
        Ok(())
    })
}

/// CPU time on the bill of a container that was started so often, and what `wait4` said of its first processes:
/// each was born into its cgroup, so its clock was 0 when it entered.
fn counted_and_waited(world: &World, view: &ContainerView, starts: usize) -> Result<(u128, u128)> {
    let mut waited_us = Vec::new();
    world.until("each start has its last reading", || {
        waited_us = world
            .readings()?
            .iter()
            .filter(|of| of.series.container.as_ref() == Some(&view.id) && of.kind == ReadingKind::Final)
            .map(|last| Ok(last.source.get("init_cpu_us").context("what wait4 said")?.parse::<u128>()?))
            .collect::<Result<Vec<_>>>()?;
        Ok(waited_us.len() == starts)
    })?;
    // The roll-up takes readings in their order: this one's hour is there when all before it are.
    let waited_ns = waited_us.iter().sum::<u128>() * 1_000;
    let mut used_ns = 0;
    world.until("its last reading is on the bill", || {
        used_ns = world.quantity(view, Meter::CpuUsed)?;
        Ok(used_ns + 1_000 * starts as u128 >= waited_ns)
    })?;
    Ok((used_ns, waited_ns))
}

#[test]
fn the_containers_of_a_tenant_add_up_to_its_own_cgroup() -> Result<()> {
    let count: usize = if std::env::var_os("WHARF_SOAK").is_some() { 200 } else { 20 };
    run(|world| {
        let tenant = world.tenant("acme")?;
        let mut all: Vec<ContainerView> = Vec::new();
        for batch in (1..=count).collect::<Vec<_>>().chunks(5) {
            let started = batch.iter().map(|number| {
                let script = spin(u128::try_from(number * 100_000 / count)?);
                world.start(&tenant, &["sh", "-c", &script], json!({}))
            });
            for view in started.collect::<Result<Vec<_>>>()? {
                all.push(world.ended(view.id.as_str())?);
            }
        }
        let used = |reading: &ReadingRecord| reading.meter(Meter::CpuUsed).map(|used| used.cum);
        let (mut sum, mut finals, mut ended_ns, mut whole) = (0_u128, 0, 0, None);
        // The tenant's own cgroup goes on: its next reading is one that all the last ones are in.
        world.until("the tenant's cgroup was read after its last container", || {
            (sum, finals, ended_ns, whole) = (0, 0, 0, None);
            for reading in world.readings()?.iter().filter(|of| of.series.tenant.as_ref() == Some(&tenant.id))
            {
                if reading.series.container.is_none() {
                    whole = Some(reading.clone());
                } else if reading.kind == ReadingKind::Final {
                    (sum, finals) = (sum + used(reading).context("CPU time")?, finals + 1);
                    ended_ns = ended_ns.max(reading.t1_boot_ns);
                }
            }
            Ok(finals == all.len() && whole.as_ref().is_some_and(|of| of.t1_boot_ns > ended_ns))
        })?;
        let truth = whole.as_ref().and_then(used).context("the tenant's CPU time")?;
        let difference_ns = truth.abs_diff(sum);
        eprintln!(
            "{count} containers used {sum} ns, their tenant's cgroup {truth}: {difference_ns} ns apart"
        );
        ensure!(
            difference_ns <= 1_000 * all.len() as u128,
            "{sum} ns in containers, {truth} ns in the cgroup"
        );
        Ok(())
    })
}

#[test]
fn while_the_journal_cannot_be_written_nothing_starts_and_nothing_is_lost() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        // So that the image is here.
        world.script(&tenant, "true", json!({}))?;
        let script = format!("{}; times; echo burnt; exec sleep 1000", spin(100_000));
        let view = world.start(&tenant, &["sh", "-c", &script], json!({}))?;
        let id = view.id.as_str();
        world.logged(id, "burnt")?;
        in_journal(
            world,
            "CREATE TRIGGER fault BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'fault'); END",
        )?;
        let refused = world.start(&tenant, &["sleep", "1000"], json!({}));
        ensure!(refused.is_err(), "a container started that cannot be metered: {refused:?}");
        let ended: ContainerView = world.api().post(&format!("/containers/{id}/stop"), &json!({}))?;
        assert_eq!(ended.state, ContainerState::Exited);
        ensure!(world.api().delete(&format!("/containers/{id}")).is_err(), "its reading was not stored yet");
        // An agent that dies now knows of it only what is on the disk and in the kernel.
        world.kill_agent()?;
        in_journal(world, "DROP TRIGGER fault")?;
        world.start_agent()?;
        let counted = World::cpu_time_ns(&world.logs(id)?)?;
        let used = world.quantity(&ended, Meter::CpuUsed)?;
        assert!(
            used >= counted && used - counted < TOLERANCE_NS,
            "times says {counted} ns, the bill {used} ns"
        );
        let page: Page<ContainerView> = world.api().get("/containers?all=true")?;
        for view in page.items {
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        world.no_container_is_left()
    })
}

#[test]
fn bytes_over_the_network_are_on_the_bill() -> Result<()> {
    const FILE: u128 = 5_000_000;
    run(|world| {
        let tenant = world.tenant("acme")?;
        let server = format!(
            "dd if=/dev/zero of=/www/big bs=1000 count={} 2>/dev/null; echo ready; exec httpd -f -p 80 -h /www",
            FILE / 1_000
        );
        let server = world.start(&tenant, &["sh", "-c", &server], json!({ "name": "server" }))?;
        world.logged(server.id.as_str(), "ready")?;
        let address = server.address.clone().context("an address")?;
        let address = address.split('/').next().unwrap_or_default();
        // Fails only until the server listens; then it comes once.
        let fetch =
            format!("until wget -q -O /tmp/big http://{address}/big; do sleep 0.1; done; wc -c /tmp/big");
        let client = world.script(&tenant, &fetch, json!({}))?;
        ensure!(world.logs(client.id.as_str())?.starts_with(&FILE.to_string()), "not all of it came");
        world.api().delete(&format!("/containers/{}?force=true", server.id))?;
        // Each packet has 52 bytes of headers, at its begin 60, around at most 1,448 bytes of the file; the
        // other way go acknowledgements only. What one sent the other received.
        let headers = (FILE / 1_448 + 100) * 60;
        let sent = world.quantity(&server, Meter::NetworkTenantOut)?;
        ensure!((FILE..FILE + headers).contains(&sent), "{sent}");
        assert_eq!(world.quantity(&client, Meter::NetworkTenantIn)?, sent);
        let asked = world.quantity(&client, Meter::NetworkTenantOut)?;
        ensure!((1..headers).contains(&asked), "{asked}");
        assert_eq!(world.quantity(&server, Meter::NetworkTenantIn)?, asked);
        Ok(())
    })
}

#[test]
fn usage_goes_on_over_a_killed_agent() -> Result<()> {
    run_with(&["metering.journal_interval_ms=500"], |world| {
        let tenant = world.tenant("acme")?;
        let script = "while [ ! -e /tmp/stop ]; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo round; done; times";
        let script = format!("trap 'touch /tmp/stop' TERM; {script}");
        let view = world.start(&tenant, &["sh", "-c", &script], json!({ "stop_grace_s": 20 }))?;
        let id = view.id.as_str();
        for _ in 0..2 {
            let rounds = world.logs(id)?.matches("round").count();
            world.until("it has burnt", || Ok(world.logs(id)?.matches("round").count() > rounds + 20))?;
            world.kill_agent()?;
            world.pause(std::time::Duration::from_millis(1_500));
            world.start_agent()?;
        }
        let ended: ContainerView = world.api().post(&format!("/containers/{id}/stop"), &json!({}))?;
        assert_eq!(ended.state, ContainerState::Exited);
        let counted = World::cpu_time_ns(&world.logs(id)?)?;
        let used = world.quantity(&ended, Meter::CpuUsed)?;
        // touch is a child of the shell that times counts apart, but prints in its second line.
        assert!(
            used >= counted && used - counted < TOLERANCE_NS,
            "times says {counted} ns, the bill {used} ns"
        );
        Ok(())
    })
}

#[test]
fn exports_agree_with_the_oracle_and_do_not_change() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let hour = acme.created_at.hour_start();
        let price = |meter: &str, unit_price: &str| json!({ "meter": meter, "unit_price": unit_price });
        let book = json!({
            "currency": "EUR",
            "effective_from": hour,
            "prices": [
                price("cpu_used", "0.0000123456789"),
                price("cpu_reserved", "0.000001"),
                price("memory_used", "0.00000077"),
                price("memory_reserved", "0.0000001"),
                price("network_internet_out", "0.05"),
            ],
        });
        let _: PriceBookView = world.api().post("/billing/price-books", &book)?;
        let other = world.tenant("other")?;
        for tenant in [&acme, &other] {
            let view = world.script(
                tenant,
                BURN,
                json!({ "limits": { "cpu_millis": 500, "memory_bytes": 32 << 20 } }),
            )?;
            world.quantity(&view, Meter::CpuUsed)?;
            world.api().delete(&format!("/containers/{}", view.id))?;
        }
        let export = |format: &str| {
            world.api().text(&format!("/usage/export?provisional=true&format={format}&tenant=acme"))
        };
        let lines = export("jsonl")?;
        assert_eq!(lines, export("jsonl")?, "a second export differs");
        let csv = export("csv")?;
        assert_eq!(csv, export("csv")?, "a second export differs");
        assert!(lines.contains("\"cpu_used\"") && !lines.contains(other.id.as_str()), "{lines}");

        let header = csv.lines().next().context("a header")?;
        for column in [
            "BilledCost",
            "ConsumedQuantity",
            "PricingUnit",
            "SubAccountId",
            "ResourceId",
            "ChargePeriodStart",
        ] {
            ensure!(header.contains(column), "{column} is no column of {header}");
        }
        let rows = lines
            .lines()
            .map(serde_json::from_str::<Value>)
            .filter(|row| row.as_ref().is_ok_and(|row| row["type"] == "usage"));
        assert_eq!(csv.lines().count() - 1, rows.count(), "CSV and JSON lines have different rows");

        let usage = world.dir().join("usage.jsonl");
        let books = world.dir().join("books.json");
        fs::write(&usage, world.api().text("/usage/export?provisional=true&format=jsonl")?)?;
        fs::write(&books, world.api().text("/billing/price-books")?)?;
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backend/billing/oracle/oracle.py");
        let output = Command::new("python3").arg(oracle).arg(&usage).arg(&books).output()?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !said.starts_with("0 rows"), "the oracle disagrees: {said}");
        Ok(())
    })
}

#[test]
fn prometheus_reads_the_same_counters_in_cadvisor_s_names() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = format!("{BURN}; exec sleep 1000");
        let view = world.start(&tenant, &["sh", "-c", &script], json!({ "name": "burner" }))?;
        world.until("it has burnt", || Ok(world.logs(view.id.as_str())?.lines().count() >= 2))?;
        let counted = World::cpu_time_ns(&world.logs(view.id.as_str())?)?;
        let label = format!("{{id=\"{}\",name=\"burner\",", view.id);
        let mut text = String::new();
        let value = |text: &str, series: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{series}{label}")));
            line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
        };
        // A reading is at most a second old.
        world.until("all of it is told", || {
            text = world.api().beside("/metrics/containers")?.success()?;
            let told = value(&text, "container_cpu_usage_seconds_total").context("no CPU time")?;
            let (seconds, fraction) = told.split_once('.').unwrap_or((&told, "0"));
            let told =
                seconds.parse::<u128>()? * 1_000_000_000 + format!("{fraction:0<9}").parse::<u128>()?;
            Ok(told >= counted)
        })?;
        for series in [
            "container_memory_working_set_bytes",
            "container_processes",
            "container_network_receive_bytes_total",
            "container_network_transmit_bytes_total",
        ] {
            value(&text, series).with_context(|| format!("no {series} in {text}"))?;
        }
        let own = world.api().beside("/metrics")?.success()?;
        ensure!(own.contains("wharf_") && !own.contains(view.id.as_str()), "{own}");
        for path in ["/metrics", "/metrics/containers"] {
            assert_eq!(world.stranger().beside(path)?.status.as_u16(), 401, "{path} is open to strangers");
        }
        Ok(())
    })
}

#[test]
fn an_agent_on_postgresql_does_the_same() -> Result<()> {
    let server = Postgres::start()?;
    let setting = format!("database.url={}", server.url);
    run_with(&[&setting], |world| {
        let tenant = world.tenant("acme")?;
        let view = world.script(&tenant, BURN, json!({ "name": "burner" }))?;
        let counted = World::cpu_time_ns(&world.logs(view.id.as_str())?)?;
        world.kill_agent()?;
        world.start_agent()?;
        let used = world.quantity(&view, Meter::CpuUsed)?;
        assert!(
            used >= counted && used - counted < TOLERANCE_NS,
            "times says {counted} ns, the bill {used} ns"
        );
        let export = world.api().text("/usage/export?provisional=true&format=csv&tenant=acme")?;
        ensure!(export.contains("burner"), "{export}");
        ensure!(!world.state_dir().join("wharf.db").exists(), "it wrote to a file of its own too");
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}

#[test]
fn a_counter_this_kernel_lacks_is_never_zero() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.script(&tenant, "true", json!({}))?;
        world.quantity(&view, Meter::CpuUsed)?;
        for row in world.usage(&view)? {
            let quantity: u128 = row.quantity.as_str().parse()?;
            if matches!(row.meter, Meter::BlockRead | Meter::BlockWrite)
                && !fs::exists("/sys/fs/cgroup/cgroup.controllers")?
            {
                assert_eq!(row.quality, Quality::NotMeasurable, "{row:?}");
            }
            ensure!(row.quality != Quality::NotMeasurable || quantity == 0, "{row:?}");
        }
        Ok(())
    })
}

/// Does something to the journal that the agent does not know of.
fn in_journal(world: &World, what: &str) -> Result<()> {
    let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=20).executescript(sys.argv[2])";
    let journal = world.state_dir().join("journal.db");
    let output = Command::new("python3").args(["-c", program]).arg(journal).arg(what).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
