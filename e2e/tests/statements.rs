//! A month is closed for three tenants, explained down to the kernel, and taken back.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wharf_e2e::{World, move_back, past_month, run};
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::statement::{Explanation, StatementStatus, StatementView};
use wharf_shared::tenant::TenantView;

/// Burns CPU in the shell itself and prints what the kernel counted for it.
const BURN: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times";
/// Start and end of the process, which `times` cannot see.
const TOLERANCE_NS: u128 = 40_000_000;

/// The line of this SKU and tier.
fn line(view: &StatementView, sku: &str, tier: &str) -> Result<u32> {
    let found = view.lines.iter().find(|line| {
        line.sku.as_deref() == Some(sku) && line.tier.as_deref() == Some(tier) && !line.is_unattributed
    });
    Ok(found.with_context(|| format!("no line {sku}.{tier} in {view:#?}"))?.line)
}

#[test]
fn a_month_of_three_tenants_is_issued_explained_to_the_kernel_and_taken_back() -> Result<()> {
    run(|world| {
        let tenants = ["acme", "blue", "coop"].map(|name| world.tenant(name));
        let tenants: Vec<TenantView> = tenants.into_iter().collect::<Result<_>>()?;
        let mut burnt: BTreeMap<String, (ContainerView, u128)> = BTreeMap::new();
        for tenant in &tenants {
            let limits =
                json!({ "name": "burner", "limits": { "cpu_millis": 10, "memory_bytes": 64 << 20 } });
            // Without a limit that is worth the name the burner takes all it gets: used is the greater.
            let limits = if tenant.name == "acme" { json!({ "name": "burner" }) } else { limits };
            let script = if tenant.name == "acme" { BURN } else { "sleep 1; times" };
            let view = world.script(tenant, script, limits)?;
            let counted = World::cpu_time_ns(&world.logs(view.id.as_str())?)?;
            burnt.insert(tenant.name.clone(), (view, counted));
        }
        world.until("all is in the journal", || Ok(world.every_reading_is_there().is_ok()))?;
        let blue = tenants.iter().find(|tenant| tenant.name == "blue").context("blue")?;
        let (begin, month) = past_month(blue.created_at)?;
        world.stop_agent()?;
        let contract = json!({ "tenant": blue.id, "discount_percent": "50", "taxes": { "standard": "20" },
            "credits": [{ "name": "welcome", "amount": "0.01" }] });
        move_back(&world.state_dir(), begin, &contract)?;
        world.start_agent()?;

        let drafts: Page<StatementView> = world.api().get(&format!("/statements?period={month}"))?;
        assert_eq!(drafts.items.len(), 3);
        assert!(drafts.items.iter().all(|view| view.status == StatementStatus::Draft), "{drafts:#?}");
        for (number, tenant) in (1..).zip(&tenants) {
            let said = world.said(&["statement", "issue", &format!("{}.{month}", tenant.name)])?;
            assert_eq!(said.trim(), format!("S-{number:06}"));
        }

        // From the line to the kernel: acme's CPU.
        let acme: StatementView = world.api().get("/statements/S-000001")?;
        let number = line(&acme, "cpu", "standard")?;
        let path = format!("/statements/S-000001/lines/{number}/explain");
        let explained: Explanation = world.api().get(&path)?;
        ensure!(explained.is_unchanged, "{explained:#?}");
        let (view, counted) = &burnt["acme"];
        let mut metered = 0;
        for row in &explained.rows {
            assert_eq!(row.container.as_ref(), Some(&view.id));
            let sum: u128 = row
                .readings
                .iter()
                .map(|reading| reading.delta.as_str().parse::<u128>())
                .sum::<Result<_, _>>()?;
            assert_eq!(row.metered_quantity.as_str(), sum.to_string(), "{row:#?}");
            metered += sum;
        }
        assert!(
            metered >= *counted && metered - counted < TOLERANCE_NS,
            "times says {counted} ns, the line {metered} ns"
        );
        let last = explained.rows.last().and_then(|row| row.readings.last()).context("a reading")?;
        assert_eq!(last.raw.map(u128::from), Some(metered), "the kernel's counter began at 0: {last:#?}");
        ensure!(last.origin.contains("cpu.stat") && last.source.contains_key("cgroup"), "{last:#?}");
        let said = world.said(&["explain", "S-000001", &number.to_string()])?;
        ensure!(said.contains("cpu.stat usage_usec") && said.contains(&format!("= {metered} ")), "{said}");

        // A contract, an allowance, a credit, a tax; on paper and in a table.
        let blue: StatementView = world.api().get("/statements/S-000002")?;
        line(&blue, "memory_reserved", "t0")?;
        let taxed = line(&blue, "memory_reserved", "t1")?;
        let paper = world.said(&["statement", "show", "S-000002", "--format", "html"])?;
        ensure!(paper.contains("Statement S-000002") && paper.contains("Credit welcome"), "{paper}");
        // The paper says where the ledger stood.
        let head = blue.ledger_head.as_ref().context("where the ledger stood")?;
        ensure!(paper.contains(&format!("{}:{}", head.seq, head.hash)), "{paper}");
        let copy = world.dir().join("ledger.jsonl");
        let copy = copy.to_str().context("a path")?;
        world.said(&["ledger", "export", "-o", copy])?;
        let text = std::fs::read_to_string(copy)?;
        let record = format!("\"seq\":{},\"hash\":\"{}\"", head.seq, head.hash);
        ensure!(text.lines().any(|line| line.contains(&record)), "{record}");
        let price =
            blue.lines.iter().find(|line| line.line == taxed).and_then(|line| line.unit_price.clone());
        assert_eq!(price.as_ref().map(wharf_shared::decimal::Decimal::as_str), Some("50"), "half of 100");
        let table = world.api().text("/statements/S-000002?format=csv")?;
        ensure!(table.lines().count() > blue.lines.len(), "{table}");
        let stranger = world.member(tenants.last().context("coop")?)?;
        stranger.refused(reqwest::Method::GET, "/statements/S-000002", None)?;

        let note = world.said(&["statement", "void", "S-000001", "--reason", "a test"])?;
        assert_eq!(note.trim(), "C-000001");
        let voided: StatementView = world.api().get("/statements/S-000001")?;
        assert_eq!((voided.status, voided.refers_to.as_deref()), (StatementStatus::Voided, Some("C-000001")));
        let note: StatementView = world.api().get("/statements/C-000001")?;
        assert_eq!(note.total.as_str().trim_start_matches('-'), acme.total.as_str());
        ensure!(note.total.is_negative() || acme.total.as_str() == "0", "{note:#?}");
        for (view, _) in burnt.values() {
            world.api().delete(&format!("/containers/{}", view.id))?;
        }
        world.no_container_is_left()
    })
}
