//! The ledger of a real agent is whole whatever happens to the agent, and a copy that was altered is found.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{World, run};
use wharf_shared::container::ContainerView;
use wharf_shared::ledger::{CorrectionView, LedgerView};
use wharf_shared::page::Page;
use wharf_shared::reading::ReadingKind;
use wharf_shared::usage::Meter;

/// What `wharf ledger verify` says of a file that was altered.
fn complaint(world: &World, path: &str) -> Result<String> {
    let output = world.wharf(&["ledger", "verify", path])?;
    ensure!(output.status.code() == Some(1), "an altered ledger passed: {output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

/// The hours of a copy are what is billed, to the last digit.
fn same_hours(rebuilt: &str, billed: &Value) -> Result<()> {
    let fields = ["hour", "tenant", "container", "meter", "quantity", "unit", "quality"];
    let lines = |rows: &Value| -> Result<Vec<String>> {
        let rows = rows.as_array().context("rows")?.iter();
        let mut lines: Vec<_> = rows.map(|row| fields.map(|name| row[name].to_string()).join(" ")).collect();
        lines.sort();
        Ok(lines)
    };
    let (rebuilt, billed) = (lines(&serde_json::from_str(rebuilt)?)?, lines(&billed["items"])?);
    ensure!(rebuilt.len() > 10, "{rebuilt:?}");
    assert_eq!(rebuilt, billed);
    Ok(())
}

#[test]
fn a_copy_of_the_ledger_proves_itself_after_kills_and_names_what_was_altered() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        world.script(&tenant, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", json!({}))?;
        let stays = world.start(&tenant, &["sleep", "1000"], json!({ "name": "stays" }))?;
        let key = world.state_dir().join("ledger.key");
        assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o777, 0o600);
        for _ in 0..3 {
            world.start(&tenant, &["sleep", "1000"], json!({}))?;
            world.kill_agent()?;
            world.start_agent()?;
        }
        assert!(world.stop_agent()?.success());
        world.start_agent()?;
        world.api().act(&format!("/containers/{}/stop", stays.id), &json!({ "grace_s": 0 }))?;

        let kinds: Vec<_> = world.readings()?.iter().map(|reading| reading.kind).collect();
        let count = |kind| kinds.iter().filter(|of| **of == kind).count();
        assert_eq!((count(ReadingKind::HostStart), count(ReadingKind::HostStop)), (5, 1), "{kinds:?}");
        ensure!(count(ReadingKind::Checkpoint) >= 6, "one at each start and at the stop: {kinds:?}");

        let file = world.dir().join("ledger.jsonl");
        let path = file.to_str().context("a path")?;
        world.said(&["ledger", "export", "-o", path])?;
        let view: LedgerView = world.api().get("/ledger")?;
        assert!(view.reserve_is_whole && view.last_checkpoint.is_some(), "{view:?}");
        let whole = world.said(&["ledger", "verify", path, "--key", &view.public_key])?;
        ensure!(whole.contains("is whole") && whole.contains(&view.public_key), "{whole}");
        let other = world.wharf(&["ledger", "verify", path, "--key", &"00".repeat(32)])?;
        ensure!(other.status.code() == Some(1), "another host's key: {other:?}");

        let text = fs::read_to_string(&file)?;
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let at = lines.iter().position(|line| line.contains("\"kind\":\"final\"")).context("a final one")?;
        let seq = serde_json::from_str::<Value>(lines[at])?["seq"].to_string();
        let altered = lines[at].replacen("\"cum\":\"", "\"cum\":\"1", 1);
        let with = |line: &str| [&lines[..at], &[line], &lines[at + 1..]].concat().concat();
        fs::write(&file, with(&altered))?;
        let said = complaint(world, path)?;
        ensure!(said.contains(&format!("record {seq}: its hash")), "{said}");
        fs::write(&file, with(""))?;
        let said = complaint(world, path)?;
        ensure!(said.contains("its number does not follow"), "{said}");

        // A copy of the journal itself, which nobody has open, read without an agent.
        for view in world.api().get::<Page<ContainerView>>("/containers?all=true")?.items {
            world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        }
        assert!(world.stop_agent()?.success());
        let copy = world.dir().join("copy.db");
        fs::copy(world.state_dir().join("journal.db"), &copy)?;
        let path = copy.to_str().context("a path")?;
        let whole = world.said(&["ledger", "verify", path, "--key", &view.public_key])?;
        ensure!(whole.contains("is whole"), "{whole}");
        let hours = world.said(&["--json", "ledger", "hours", path])?;
        let bytes = fs::read(&copy)?;
        fs::write(&copy, &bytes[..bytes.len() / 2])?;
        complaint(world, path)?;
        world.start_agent()?;
        same_hours(&hours, &world.api().get("/usage?limit=1000")?)
    })
}

#[test]
fn a_correction_is_a_record_and_the_hour_never_goes_below_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.script(&tenant, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", json!({}))?;
        let used = world.quantity(&view, Meter::CpuUsed)?;
        let readings = world.readings()?;
        let seq = readings
            .iter()
            .position(|of| of.series.container.as_ref() == Some(&view.id) && of.kind == ReadingKind::Final)
            .context("its last reading")?
            + 1;
        let body = |delta: &str| json!({ "refers_to": seq, "meter": "cpu_used", "delta": delta, "reason": "a test took it" });
        let path = "/ledger/corrections";
        let too_much = format!("-{}", used + 1);
        let refused = world.api().refused(Method::POST, path, Some(&body(&too_much)))?;
        ensure!(refused.to_string().contains("below 0") || format!("{refused:?}").contains("below 0"));
        for bad in ["0", "1.5", "x"] {
            world.api().refused(Method::POST, path, Some(&body(bad)))?;
        }
        let done: CorrectionView = world.api().post(path, &body("-1000"))?;
        assert_eq!(done.quantity.as_str(), (used - 1_000).to_string());
        assert_eq!(world.quantity(&view, Meter::CpuUsed)?, used - 1_000);
        let text = seq.to_string();
        world.said(&[
            "ledger", "correct", &text, "--meter", "cpu_used", "--delta", "1000", "--reason", "back",
        ])?;
        assert_eq!(world.quantity(&view, Meter::CpuUsed)?, used);
        let audit: Value = world.api().get("/audit")?;
        ensure!(audit.to_string().contains("ledger.correct"), "{audit}");
        let whole = world.readings()?;
        assert_eq!(whole.iter().filter(|of| of.kind == ReadingKind::Correction).count(), 2);
        Ok(())
    })
}
