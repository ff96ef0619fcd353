//! JSON lines: every number exact and explained, one row a line, and a total per tenant at the end.
//!
//! Whoever has the file and the price books can compute every amount again; `oracle/oracle.py` does. The
//! totals also show that a download is whole.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use wharf_shared::id::{ContainerId, ContractId, PriceBookId, TenantId};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::{Meter, Quality};

use crate::rating::{RatedRow, Totals};

/// Version of the lines' shape.
pub const SCHEMA: u32 = 2;

#[derive(Serialize)]
#[expect(clippy::large_enum_variant, reason = "a line is written as soon as it is made")]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Usage {
        schema: u32,
        tenant: &'a TenantId,
        tenant_name: &'a str,
        container: Option<&'a ContainerId>,
        container_name: &'a str,
        labels: &'a BTreeMap<String, String>,
        hour: Timestamp,
        meter: Meter,
        /// Exact integer in `unit`.
        quantity: String,
        unit: &'a str,
        quality: Quality,
        sku: &'a str,
        tier: String,
        policy: &'a str,
        pricing_quantity: String,
        pricing_unit: &'a str,
        /// By the book.
        list_unit_price: String,
        /// What this tenant pays.
        unit_price: String,
        /// Why a unit with a price costs nothing.
        relief: Option<&'a str>,
        amount: String,
        currency: &'a str,
        price_book: Option<&'a PriceBookId>,
        contract: Option<&'a ContractId>,
    },
    Total {
        schema: u32,
        tenant: &'a TenantId,
        /// Not `amount`: who adds that up over all lines gets each once.
        total_amount: String,
        currency: &'a str,
        rows: u64,
    },
}

/// Writes the line of a row, with its line end; nothing for what is no usage.
///
/// # Errors
///
/// Those of `out`, and none but what `serde_json` has for values of other types than these.
pub fn write_line(out: &mut impl Write, row: &RatedRow) -> Result<(), serde_json::Error> {
    let Some(charge) = row.usage() else { return Ok(()) };
    let usage = &charge.usage;
    let line = Line::Usage {
        schema: SCHEMA,
        tenant: &usage.tenant,
        tenant_name: &usage.tenant_name,
        container: usage.container.as_ref(),
        container_name: &usage.container_name,
        labels: &usage.labels,
        hour: usage.hour,
        meter: usage.meter,
        quantity: usage.quantity.to_string(),
        unit: usage.meter.unit(),
        quality: usage.quality,
        sku: charge.sku,
        tier: charge.tier.to_string(),
        policy: charge.policy,
        pricing_quantity: charge.quantity.to_string(),
        pricing_unit: charge.unit.as_str(),
        list_unit_price: charge.list_unit_price.to_string(),
        unit_price: charge.contracted_unit_price.to_string(),
        relief: charge.relief.map(crate::rating::Relief::as_str),
        amount: row.billed_cost().to_string(),
        currency: &row.currency,
        price_book: row.price_book.as_ref(),
        contract: row.contract.as_ref(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n").map_err(serde_json::Error::io)
}

/// The last lines: what each tenant's rows sum up to.
pub fn totals(totals: &Totals) -> Result<String, serde_json::Error> {
    let line = |(tenant, total): (&TenantId, &crate::rating::Total)| {
        let (total_amount, currency) = (total.amount.to_string(), total.currency.as_str());
        let line = Line::Total { schema: SCHEMA, tenant, total_amount, currency, rows: total.rows };
        serde_json::to_string(&line).map(|text| text + "\n")
    };
    totals.0.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::tests::{books, rate, usage};

    #[test]
    fn every_number_is_text_but_counts_of_rows() {
        let rated =
            rate(&books(&[(Meter::MemoryUsed, "0.5")], false), usage(None, Meter::MemoryUsed, u128::MAX));
        let mut text = Vec::new();
        write_line(&mut text, &rated).expect("serializes");
        let text = String::from_utf8(text).expect("text");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["quantity"], "340282366920938463463374607431768211455");
        assert_eq!((&value["type"], &value["amount"]), (&"usage".into(), &"0".into()));
        assert!(value["container"].is_null() && text.ends_with("}\n"));
        let mut sums = Totals::default();
        sums.add(&rated);
        let value: serde_json::Value =
            serde_json::from_str(&totals(&sums).expect("serializes")).expect("JSON");
        assert_eq!((&value["type"], &value["rows"]), (&"total".into(), &1.into()));
    }
}
