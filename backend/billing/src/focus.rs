//! Rows of FOCUS 1.2 (the `FinOps` foundation's open specification of costs, dataset `CostAndUsage`) as CSV.
//!
//! All 57 columns are there, in alphabetical order, then our own with `x_`. Costs are unit price ×
//! pricing quantity to the last digit. Nothing has been invoiced yet, so `InvoiceId` is null everywhere.
//! Names that people give begin with a letter or digit (`shared::name`), so no field is taken for a
//! formula by a spreadsheet; values are never rewritten.

use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::Meter;

use crate::csv;
use crate::rating::RatedRow;

/// Columns of FOCUS 1.2.
pub const FOCUS_COLUMNS: usize = 57;

/// What is the same in every row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FocusContext {
    /// Who sells: provider, publisher and issuer of invoices.
    pub provider_name: String,
    /// Id of the account that pays.
    pub billing_account_id: String,
    /// Its name.
    pub billing_account_name: String,
    /// Where the host stands.
    pub region: String,
    /// The host.
    pub host: String,
}

/// One column: its name, and its value in a row (empty for null).
type Column = (&'static str, fn(&RatedRow, &FocusContext) -> String);

const NULL: fn(&RatedRow, &FocusContext) -> String = |_, _| String::new();
const COST: fn(&RatedRow, &FocusContext) -> String = |row, _| row.amount.to_string();
const UNIT_PRICE: fn(&RatedRow, &FocusContext) -> String = |row, _| row.unit_price.to_string();
const QUANTITY: fn(&RatedRow, &FocusContext) -> String = |row, _| row.pricing_quantity.to_string();
const UNIT: fn(&RatedRow, &FocusContext) -> String = |row, _| row.usage.meter.pricing_unit().to_owned();
const PROVIDER: fn(&RatedRow, &FocusContext) -> String = |_, context| context.provider_name.clone();
const REGION: fn(&RatedRow, &FocusContext) -> String = |_, context| context.region.clone();

/// Every column of a file, in its order.
pub(crate) const COLUMNS: [Column; 63] = [
    ("AvailabilityZone", |_, context| context.host.clone()),
    ("BilledCost", COST),
    ("BillingAccountId", |_, context| context.billing_account_id.clone()),
    ("BillingAccountName", |_, context| context.billing_account_name.clone()),
    ("BillingAccountType", |_, _| "Account".to_owned()),
    ("BillingCurrency", |row, _| row.currency.clone()),
    ("BillingPeriodEnd", |row, _| month(row.usage.hour).1.to_string()),
    ("BillingPeriodStart", |row, _| month(row.usage.hour).0.to_string()),
    ("CapacityReservationId", NULL),
    ("CapacityReservationStatus", NULL),
    ("ChargeCategory", |_, _| "Usage".to_owned()),
    ("ChargeClass", NULL),
    ("ChargeDescription", |row, _| description(row)),
    ("ChargeFrequency", |_, _| "Usage-Based".to_owned()),
    ("ChargePeriodEnd", |row, _| Timestamp(row.usage.hour.0.saturating_add(HOUR_US)).to_string()),
    ("ChargePeriodStart", |row, _| row.usage.hour.to_string()),
    ("CommitmentDiscountCategory", NULL),
    ("CommitmentDiscountId", NULL),
    ("CommitmentDiscountName", NULL),
    ("CommitmentDiscountQuantity", NULL),
    ("CommitmentDiscountStatus", NULL),
    ("CommitmentDiscountType", NULL),
    ("CommitmentDiscountUnit", NULL),
    ("ConsumedQuantity", QUANTITY),
    ("ConsumedUnit", UNIT),
    ("ContractedCost", COST),
    ("ContractedUnitPrice", UNIT_PRICE),
    ("EffectiveCost", COST),
    ("InvoiceId", NULL),
    ("InvoiceIssuerName", PROVIDER),
    ("ListCost", COST),
    ("ListUnitPrice", UNIT_PRICE),
    ("PricingCategory", |_, _| "Standard".to_owned()),
    ("PricingCurrency", NULL),
    ("PricingCurrencyContractedUnitPrice", NULL),
    ("PricingCurrencyEffectiveCost", NULL),
    ("PricingCurrencyListUnitPrice", NULL),
    ("PricingQuantity", QUANTITY),
    ("PricingUnit", UNIT),
    ("ProviderName", PROVIDER),
    ("PublisherName", PROVIDER),
    ("RegionId", REGION),
    ("RegionName", REGION),
    ("ResourceId", resource_id),
    ("ResourceName", |row, _| row.usage.container_name.clone()),
    ("ResourceType", |row, _| if row.usage.container.is_some() { "Container" } else { "" }.to_owned()),
    ("ServiceCategory", |row, _| service(row.usage.meter).category.to_owned()),
    ("ServiceName", |row, _| service(row.usage.meter).name.to_owned()),
    ("ServiceSubcategory", |row, _| service(row.usage.meter).subcategory.to_owned()),
    ("SkuId", |row, _| row.usage.meter.as_str().to_owned()),
    ("SkuMeter", |row, _| row.usage.meter.title().to_owned()),
    ("SkuPriceDetails", NULL),
    ("SkuPriceId", |row, _| format!("{}.standard", row.usage.meter.as_str())),
    ("SubAccountId", |row, _| row.usage.tenant.to_string()),
    ("SubAccountName", |row, _| row.usage.tenant_name.clone()),
    ("SubAccountType", |_, _| "Tenant".to_owned()),
    ("Tags", tags),
    ("x_HostId", |_, context| context.host.clone()),
    ("x_MeteredQuantity", |row, _| row.usage.quantity.to_string()),
    ("x_MeteredUnit", |row, _| row.usage.meter.unit().to_owned()),
    ("x_PriceBookVersion", |row, _| row.price_book.as_ref().map(ToString::to_string).unwrap_or_default()),
    ("x_Quality", |row, _| row.usage.quality.as_str().to_owned()),
    ("x_Unattributed", |row, _| row.usage.container.is_none().to_string()),
];

/// The first line of a file.
pub fn header() -> String {
    csv::write_line(COLUMNS.map(|(name, _)| name))
}

/// The line of a row.
pub fn line(row: &RatedRow, context: &FocusContext) -> String {
    csv::write_line(COLUMNS.iter().map(|(_, value)| value(row, context)))
}

/// Begin and end of the UTC month of a moment.
pub(crate) fn month(moment: Timestamp) -> (Timestamp, Timestamp) {
    let (year, month, _) = moment.date();
    let (next_year, next_month) =
        if month < 12 { (year, month.saturating_add(1)) } else { (year.saturating_add(1), 1) };
    let first = |year, month| Timestamp::from_date(year, month, 1).unwrap_or(moment);
    (first(year, month), first(next_year, next_month))
}

fn resource_id(row: &RatedRow, context: &FocusContext) -> String {
    let Some(container) = &row.usage.container else { return String::new() };
    format!("wharfage://{}/{}/containers/{container}", context.region, row.usage.tenant)
}

/// The container's own labels, as an object of texts; null without any.
fn tags(row: &RatedRow, _: &FocusContext) -> String {
    let labels = &row.usage.labels;
    if labels.is_empty() {
        return String::new();
    }
    let text = |text: &String| serde_json::Value::String(text.clone());
    let tags = labels.iter().map(|(name, value)| (name.clone(), text(value)));
    serde_json::Value::Object(tags.collect()).to_string()
}

fn description(row: &RatedRow) -> String {
    use wharf_shared::usage::Quality;
    let mut text = row.usage.meter.title().to_owned();
    if row.usage.container.is_none() {
        text.push_str(" outside containers");
    }
    text.push_str(match row.usage.quality {
        Quality::Measured => "",
        Quality::Partial => " (readings are missing)",
        Quality::NotMeasurable => " (not measurable here)",
    });
    text
}

/// A FOCUS service; one name has one category.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) category: &'static str,
    pub(crate) subcategory: &'static str,
}

pub(crate) const fn service(meter: Meter) -> Service {
    match meter {
        Meter::CpuUsed | Meter::CpuReserved | Meter::MemoryUsed | Meter::MemoryReserved => {
            Service { name: "Container Host", category: "Compute", subcategory: "Containers" }
        }
        Meter::BlockRead | Meter::BlockWrite => {
            Service { name: "Container Storage", category: "Storage", subcategory: "Block Storage" }
        }
        _ => {
            Service { name: "Container Network", category: "Networking", subcategory: "Network Connectivity" }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use wharf_shared::time::HOUR_US;

    use super::*;
    use crate::rating::rate;
    use crate::rating::tests::{books, usage};

    pub(crate) fn context() -> FocusContext {
        FocusContext {
            provider_name: "Example Hosting, Ltd.".to_owned(),
            billing_account_id: "account-1".to_owned(),
            billing_account_name: "Example".to_owned(),
            region: "eu-1".to_owned(),
            host: "hst_00000000-0000-7000-8000-000000000001".to_owned(),
        }
    }

    #[test]
    fn columns_are_the_57_in_order_and_then_our_own() {
        let names = COLUMNS.map(|(name, _)| name);
        let (focus, own) = names.split_at(FOCUS_COLUMNS);
        assert!(focus.is_sorted() && own.is_sorted());
        assert!(
            own.iter().all(|name| name.starts_with("x_")) && !focus.iter().any(|name| name.starts_with("x_"))
        );
    }

    #[test]
    fn a_row_says_what_when_whose_and_how_much() {
        let rated = rate(
            &books(&[(Meter::CpuUsed, "0.0000105")], false),
            usage(Some(1), Meter::CpuUsed, 230_123_456_000),
        );
        let text = line(&rated, &context());
        for part in [
            "0.002416296288",
            "230.123456",
            "Core-Seconds",
            "2027-01-15T08:00:00Z",
            "2027-01-15T09:00:00Z",
            "2027-01-01T00:00:00Z",
            "2027-02-01T00:00:00Z",
            "\"Example Hosting, Ltd.\"",
            "web-1",
            "measured",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with("\r\n"));
    }

    #[test]
    fn labels_are_tags_and_without_any_there_is_no_value() {
        let mut rated = rate(&books(&[], false), usage(Some(1), Meter::CpuUsed, 1));
        assert_eq!(tags(&rated, &context()), "");
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        rated.usage.labels = [label("app", "a \"shop\", 2"), label("=tier", "=1+1")].into();
        assert_eq!(tags(&rated, &context()), r#"{"=tier":"=1+1","app":"a \"shop\", 2"}"#);
        assert!(line(&rated, &context()).contains(r#","{""=tier"":""=1+1"",""app"":""a \""shop\"", 2""}","#));
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let december = at("2026-12-31T23:00:00Z");
        assert_eq!(month(december), (at("2026-12-01"), at("2027-01-01")));
        assert_eq!(month(Timestamp(december.0 + HOUR_US)), (at("2027-01-01"), at("2027-02-01")));
    }

    #[test]
    fn no_field_is_taken_for_a_formula() {
        let rated = rate(&books(&[], false), usage(Some(1), Meter::CpuUsed, 0));
        for (name, value) in COLUMNS {
            let text = value(&rated, &context());
            assert!(!text.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name}: {text}");
        }
    }
}
