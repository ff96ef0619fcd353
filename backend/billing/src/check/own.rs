//! What is known of a file of ours besides: it has columns that say what the others were made of.

use wharf_shared::usage::{Meter, Quality};

use super::{Report, Row};
use crate::amount::Amount;

/// Where all of these are, the file is one of ours.
pub(super) const COLUMNS: [&str; 4] = ["x_HostId", "x_MeteredQuantity", "x_MeteredUnit", "x_Quality"];

/// What there is one row for.
pub(super) fn key<'a>(row: &Row<'a>) -> [Option<&'a str>; 10] {
    [
        "SubAccountId",
        "ResourceId",
        "SkuPriceId",
        "ChargePeriodStart",
        "ChargeCategory",
        "ChargeClass",
        "ChargeDescription",
        "ContractedUnitPrice",
        "x_HostId",
        "x_Relief",
    ]
    .map(|column| row.get(column))
}

/// Checks a row.
pub(super) fn check(row: &Row<'_>, report: &mut Report) {
    if !row.is("ChargeCategory", "Usage") || row.is("ChargeClass", "Correction") {
        return;
    }
    money(row, report);
    metered(row, report);
}

/// There are no commitments and nothing is paid ahead: what is used is billed.
fn money(row: &Row<'_>, report: &mut Report) {
    let Some(contracted) = row.number("ContractedCost") else { return };
    for column in ["BilledCost", "EffectiveCost"] {
        if let Some(found) = row.number(column)
            && found != contracted
        {
            report.add(
                row.at,
                column,
                "own-cost",
                &found.to_string(),
                format!("{contracted}, the ContractedCost"),
            );
        }
    }
    let is_free = row.number("ListUnitPrice").is_none_or(|price| price.is_zero());
    if row.get("x_PriceBookVersion").is_none() && !is_free {
        let expected = "the price book that the price is of";
        report.add(row.at, "x_PriceBookVersion", "own-price-book", "null", expected);
    }
}

fn metered(row: &Row<'_>, report: &mut Report) {
    let quality = row.get("x_Quality").unwrap_or("null");
    if Quality::from_name(quality).is_none() {
        report.add(row.at, "x_Quality", "own-quality", quality, "measured, partial or not_measurable");
    }
    let found = row.get("x_MeteredQuantity").unwrap_or("null");
    let Ok(metered) = found.parse::<u128>() else {
        return report.add(row.at, "x_MeteredQuantity", "own-quantity", found, "a whole number of 128 bits");
    };
    if quality == Quality::NotMeasurable.as_str() && metered != 0 {
        return report.add(
            row.at,
            "x_MeteredQuantity",
            "own-quantity",
            found,
            "0, as it cannot be measured here",
        );
    }
    let unit = row.get("x_MeteredUnit").unwrap_or_default();
    let pricing_unit = row.get("ConsumedUnit").unwrap_or_default();
    let of_units = |meter: &Meter| meter.unit() == unit && meter.pricing_unit() == pricing_unit;
    let Some(meter) = Meter::ALL.into_iter().find(of_units) else {
        let expected = "units of one of our meters, in x_MeteredUnit and ConsumedUnit";
        return report.add(row.at, "x_MeteredUnit", "own-unit", unit, expected);
    };
    let exact = Amount::from_units(metered, meter.pricing_unit_exponent());
    if row.number("ConsumedQuantity").as_ref() != Some(&exact) {
        let found = row.get("ConsumedQuantity").unwrap_or("null");
        report.add(
            row.at,
            "ConsumedQuantity",
            "own-quantity",
            found,
            format!("{exact}, as x_MeteredQuantity says"),
        );
    }
}
