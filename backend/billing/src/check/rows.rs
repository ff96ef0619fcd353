//! What must hold between the fields of one row.

use super::fields::time;
use super::{Report, Row};
use crate::amount::Amount;
use crate::focus::schema;

/// Columns without which nothing is used or bought, and which a tax does not have.
const PRICED: [&str; 7] = [
    "PricingQuantity",
    "PricingUnit",
    "ListUnitPrice",
    "ContractedUnitPrice",
    "SkuId",
    "SkuPriceId",
    "PricingCategory",
];

/// Each second column is null exactly where the first is.
const TOGETHER: [(&str, &str); 13] = [
    ("PricingQuantity", "PricingUnit"),
    ("ConsumedQuantity", "ConsumedUnit"),
    ("SubAccountId", "SubAccountName"),
    ("SubAccountId", "SubAccountType"),
    ("RegionId", "RegionName"),
    ("ResourceId", "ResourceType"),
    ("SkuId", "SkuPriceId"),
    ("SkuId", "SkuMeter"),
    ("BillingAccountId", "BillingAccountType"),
    ("CommitmentDiscountId", "CommitmentDiscountCategory"),
    ("CommitmentDiscountId", "CommitmentDiscountType"),
    ("CommitmentDiscountQuantity", "CommitmentDiscountUnit"),
    ("PricingCurrency", "PricingCurrencyEffectiveCost"),
];

/// Each second column is null where the first is.
const BESIDE: [(&str, &str); 7] = [
    ("ResourceId", "ResourceName"),
    ("CommitmentDiscountId", "CommitmentDiscountName"),
    ("CommitmentDiscountId", "CommitmentDiscountStatus"),
    ("CommitmentDiscountId", "CommitmentDiscountQuantity"),
    ("CapacityReservationId", "CapacityReservationStatus"),
    ("SkuPriceId", "SkuPriceDetails"),
    ("PricingCurrency", "PricingCurrencyContractedUnitPrice"),
];

/// What prices and costs are in the currency of prices, and in that of the bill.
const SAME_IN_ONE_CURRENCY: [(&str, &str); 3] = [
    ("PricingCurrencyContractedUnitPrice", "ContractedUnitPrice"),
    ("PricingCurrencyEffectiveCost", "EffectiveCost"),
    ("PricingCurrencyListUnitPrice", "ListUnitPrice"),
];

/// Checks a row.
pub(super) fn check(row: &Row<'_>, report: &mut Report) {
    periods(row, report);
    nulls(row, report);
    costs(row, report);
    words(row, report);
}

fn periods(row: &Row<'_>, report: &mut Report) {
    let at = |column| row.get(column).and_then(time);
    let (start, end) = (at("ChargePeriodStart"), at("ChargePeriodEnd"));
    let (begin, next) = (at("BillingPeriodStart"), at("BillingPeriodEnd"));
    for (start, end, column) in [(start, end, "ChargePeriodEnd"), (begin, next, "BillingPeriodEnd")] {
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            report.add(row.at, column, "period-order", &end.to_string(), format!("a time after {start}"));
        }
    }
    let (Some(start), Some(end), Some(begin), Some(next)) = (start, end, begin, next) else { return };
    let shown = format!("{start} to {end}");
    if row.is("ChargeClass", "Correction") {
        // What is open is changed, not corrected.
        if end > begin {
            let expected = format!("a period that ended by {begin}, of an earlier bill");
            report.add(row.at, "ChargeClass", "correction-of-open-period", &shown, expected);
        }
    } else if start < begin || end > next {
        let expected = format!("a part of the billing period, {begin} to {next}");
        report.add(row.at, "ChargePeriodStart", "charge-outside-billing-period", &shown, expected);
    }
}

fn nulls(row: &Row<'_>, report: &mut Report) {
    for (first, second) in TOGETHER {
        // SKUs and resources of files without such columns are nobody's matter.
        if row.has(first) && row.has(second) && row.get(first).is_some() != row.get(second).is_some() {
            let expected = format!("null exactly where {first} is");
            report.add(row.at, second, "null-together", row.get(second).unwrap_or("null"), expected);
        }
    }
    for (first, second) in BESIDE {
        if let (None, Some(found)) = (row.get(first), row.get(second)) {
            report.add(row.at, second, "null-beside-null", found, format!("null, as {first} is"));
        }
    }
    let category = row.get("ChargeCategory").unwrap_or_default();
    let is_correction = row.is("ChargeClass", "Correction");
    if matches!(category, "Usage" | "Purchase") && !is_correction {
        for column in PRICED.into_iter().filter(|column| row.has(column) && row.get(column).is_none()) {
            report.add(row.at, column, "price-missing", "null", format!("a value, as this is {category}"));
        }
    }
    if category == "Tax" {
        for column in PRICED {
            if let Some(found) = row.get(column) {
                report.add(row.at, column, "tax-with-price", found, "null: a tax has no price");
            }
        }
    }
    if category != "Usage"
        && let Some(found) = row.get("ConsumedQuantity")
    {
        report.add(row.at, "ConsumedQuantity", "consumed-without-usage", found, "null, as nothing was used");
    }
    for (id, status) in [
        ("CommitmentDiscountId", "CommitmentDiscountStatus"),
        ("CapacityReservationId", "CapacityReservationStatus"),
    ] {
        if category == "Usage" && row.has(status) && row.get(id).is_some() && row.get(status).is_none() {
            report.add(row.at, status, "status-missing", "null", format!("a value, as there is a {id}"));
        }
    }
}

fn costs(row: &Row<'_>, report: &mut Report) {
    let is_correction = row.is("ChargeClass", "Correction");
    let category = row.get("ChargeCategory").unwrap_or_default();
    for (cost, price) in [("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")] {
        let factors = (row.number(price), row.number("PricingQuantity"), row.number(cost));
        if let (Some(unit), Some(quantity), Some(found)) = factors
            && !is_correction
        {
            let exact = unit.times(&quantity);
            if found != exact {
                let expected = format!("{exact}, which is {price} x PricingQuantity");
                report.add(row.at, cost, "cost-is-product", &found.to_string(), expected);
            }
        }
    }
    if row.get("PricingCurrency").is_some_and(|currency| row.is("BillingCurrency", currency)) {
        for (in_pricing, column) in SAME_IN_ONE_CURRENCY {
            if let (Some(found), Some(expected)) = (row.number(in_pricing), row.number(column))
                && found != expected
            {
                let expected = format!("{expected}, which is {column}: both are in one currency");
                report.add(row.at, in_pricing, "pricing-currency", &found.to_string(), expected);
            }
        }
    }
    let Some(billed) = row.number("BilledCost") else { return };
    if matches!(category, "Credit" | "Adjustment") && row.get("SkuPriceId").is_none() {
        for column in ["ListCost", "ContractedCost", "EffectiveCost"] {
            if let Some(found) = row.number(column)
                && found != billed
            {
                let expected = format!("{billed}, as nothing but this charge stands behind it");
                report.add(row.at, column, "lone-costs-equal", &found.to_string(), expected);
            }
        }
    }
    let zero = Amount::zero();
    if row.get("ProviderName") != row.get("InvoiceIssuerName") && billed != zero {
        let expected = "0 where another than the provider is paid";
        report.add(row.at, "BilledCost", "billed-by-third-party", &billed.to_string(), expected);
    }
    if let Some(effective) = row.number("EffectiveCost")
        && category == "Purchase"
        && effective != zero
    {
        let expected = "0: what a purchase covers has the cost";
        report.add(row.at, "EffectiveCost", "purchase-effective-cost", &effective.to_string(), expected);
    }
}

fn words(row: &Row<'_>, report: &mut Report) {
    if row.is("ChargeCategory", "Purchase") && row.is("ChargeFrequency", "Usage-Based") {
        let expected = "One-Time or Recurring, as this is a Purchase";
        report.add(row.at, "ChargeFrequency", "purchase-frequency", "Usage-Based", expected);
    }
    if let (Some(id), Some(name)) = (row.get("ResourceId"), row.get("ResourceName"))
        && id == name
    {
        report.add(row.at, "ResourceName", "name-repeats-id", name, "a name of its own, or null");
    }
    if let (Some(category), Some(sub)) = (row.get("ServiceCategory"), row.get("ServiceSubcategory")) {
        let known = schema::SERVICES.iter().find(|(name, _)| *name == category);
        if let Some((_, subcategories)) = known
            && !subcategories.contains(&sub)
        {
            report.add(row.at, "ServiceSubcategory", "service-pair", sub, subcategories.join(", "));
        }
    }
    let is_committed = row.get("CommitmentDiscountId").is_some() && row.is("ChargeCategory", "Usage");
    if let Some(found) = row.get("PricingCategory")
        && is_committed != (found == "Committed")
        && row.is("ChargeCategory", "Usage")
    {
        let expected = "Committed exactly where there is a CommitmentDiscountId";
        report.add(row.at, "PricingCategory", "committed-pricing", found, expected);
    }
    if let Some(id) = row.get("SkuPriceId")
        && tells_more_than_the_price(id, row.get("BillingCurrency"))
    {
        let expected = "an id without currency, date or version, which columns of their own tell";
        report.add(row.at, "SkuPriceId", "price-id-encodes", id, expected);
    }
}

/// Whether an id of a price has a currency, a year or a date in it.
fn tells_more_than_the_price(id: &str, currency: Option<&str>) -> bool {
    let mut parts = id.split(|letter: char| !letter.is_ascii_alphanumeric());
    parts.any(|part| {
        let is_date = part.bytes().all(|byte| byte.is_ascii_digit())
            && matches!(part.len(), 4 | 6 | 8)
            && (part.starts_with("19") || part.starts_with("20"));
        is_date || Some(part) == currency
    })
}
