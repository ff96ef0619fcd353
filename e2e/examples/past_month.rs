//! Gives the stopped agent of the browser tests a month that is over: `past_month STATE_DIR TENANT_ID NOW` says which.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use wharf_e2e::{move_back, past_month};
use wharf_shared::time::Timestamp;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let state_dir = PathBuf::from(arguments.next().context("say where the agent's state is")?);
    let tenant = arguments.next().context("say whose contract it is")?;
    let now = arguments.next().context("say what time it is")?;
    let now: Timestamp = now.to_string_lossy().parse().context("read the time")?;
    let (begin, month) = past_month(now)?;
    let contract = json!({ "tenant": tenant.to_string_lossy(), "discount_percent": "50",
        "taxes": { "standard": "20" }, "credits": [{ "name": "welcome", "amount": "0.01" }] });
    move_back(&state_dir, begin, &contract)?;
    writeln!(std::io::stdout(), "{month}").context("say which month it is")
}
