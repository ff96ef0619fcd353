//! Rows of FOCUS 1.2 (the `FinOps` foundation's open specification of costs, dataset `CostAndUsage`) as CSV.
//!
//! All 57 columns are there, in alphabetical order, then our own with `x_`. Costs are unit price ×
//! pricing quantity to the last digit. Nothing has been invoiced yet, so `InvoiceId` is null everywhere.
//! Names that people give begin with a letter or digit (`shared::name`), so no field is taken for a
//! formula by a spreadsheet; values are never rewritten.

use wharf_shared::usage::Meter;

use crate::csv;
use crate::rating::{Charge, RatedRow, UsageCharge, period};

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
const COST: fn(&RatedRow, &FocusContext) -> String = |row, _| row.billed_cost().to_string();
const QUANTITY: fn(&RatedRow, &FocusContext) -> String = |row, _| of(row, |usage| usage.quantity.to_string());
const UNIT: fn(&RatedRow, &FocusContext) -> String = |row, _| of(row, |usage| usage.unit.as_str().to_owned());
const PROVIDER: fn(&RatedRow, &FocusContext) -> String = |_, context| context.provider_name.clone();
const REGION: fn(&RatedRow, &FocusContext) -> String = |_, context| context.region.clone();

/// A value that only usage has.
fn of(row: &RatedRow, value: impl Fn(&UsageCharge) -> String) -> String {
    row.usage().map(value).unwrap_or_default()
}

/// Every column of a file, in its order.
pub(crate) const COLUMNS: [Column; 63] = [
    ("AvailabilityZone", |_, context| context.host.clone()),
    ("BilledCost", COST),
    ("BillingAccountId", |_, context| context.billing_account_id.clone()),
    ("BillingAccountName", |_, context| context.billing_account_name.clone()),
    ("BillingAccountType", |_, _| "Account".to_owned()),
    ("BillingCurrency", |row, _| row.currency.clone()),
    ("BillingPeriodEnd", |row, _| period(row.from).1.to_string()),
    ("BillingPeriodStart", |row, _| period(row.from).0.to_string()),
    ("CapacityReservationId", NULL),
    ("CapacityReservationStatus", NULL),
    ("ChargeCategory", |row, _| row.category().as_str().to_owned()),
    ("ChargeClass", NULL),
    ("ChargeDescription", |row, _| description(row)),
    ("ChargeFrequency", |_, _| "Usage-Based".to_owned()),
    ("ChargePeriodEnd", |row, _| row.to.to_string()),
    ("ChargePeriodStart", |row, _| row.from.to_string()),
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
    ("ContractedUnitPrice", |row, _| of(row, |usage| usage.contracted_unit_price.to_string())),
    ("EffectiveCost", COST),
    ("InvoiceId", NULL),
    ("InvoiceIssuerName", PROVIDER),
    ("ListCost", |row, _| row.list_cost().to_string()),
    ("ListUnitPrice", |row, _| of(row, |usage| usage.list_unit_price.to_string())),
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
    ("ResourceName", |row, _| of(row, |usage| usage.usage.container_name.clone())),
    ("ResourceType", |row, _| {
        of(row, |usage| if usage.usage.container.is_some() { "Container" } else { "" }.to_owned())
    }),
    ("ServiceCategory", |row, _| of(row, |usage| service(usage.usage.meter).category.to_owned())),
    ("ServiceName", |row, _| of(row, |usage| service(usage.usage.meter).name.to_owned())),
    ("ServiceSubcategory", |row, _| of(row, |usage| service(usage.usage.meter).subcategory.to_owned())),
    ("SkuId", |row, _| of(row, |usage| usage.sku.to_owned())),
    ("SkuMeter", |row, _| of(row, |usage| usage.usage.meter.title().to_owned())),
    ("SkuPriceDetails", NULL),
    ("SkuPriceId", |row, _| of(row, |usage| format!("{}.{}", usage.sku, usage.tier))),
    ("SubAccountId", |row, _| row.tenant.to_string()),
    ("SubAccountName", |row, _| row.tenant_name.clone()),
    ("SubAccountType", |_, _| "Tenant".to_owned()),
    ("Tags", tags),
    ("x_HostId", |_, context| context.host.clone()),
    ("x_MeteredQuantity", |row, _| of(row, |usage| usage.usage.quantity.to_string())),
    ("x_MeteredUnit", |row, _| of(row, |usage| usage.usage.meter.unit().to_owned())),
    ("x_PriceBookVersion", |row, _| row.price_book.as_ref().map(ToString::to_string).unwrap_or_default()),
    ("x_Quality", |row, _| of(row, |usage| usage.usage.quality.as_str().to_owned())),
    ("x_Unattributed", |row, _| of(row, |usage| usage.usage.container.is_none().to_string())),
];

/// The first line of a file.
pub fn header() -> String {
    csv::write_line(COLUMNS.map(|(name, _)| name))
}

/// The line of a row.
pub fn line(row: &RatedRow, context: &FocusContext) -> String {
    csv::write_line(COLUMNS.iter().map(|(_, value)| value(row, context)))
}

fn resource_id(row: &RatedRow, context: &FocusContext) -> String {
    let Some(container) = row.usage().and_then(|usage| usage.usage.container.as_ref()) else {
        return String::new();
    };
    format!("wharfage://{}/{}/containers/{container}", context.region, row.tenant)
}

/// The container's own labels, as an object of texts; null without any.
fn tags(row: &RatedRow, _: &FocusContext) -> String {
    let Some(labels) = row.usage().map(|usage| &usage.usage.labels) else { return String::new() };
    if labels.is_empty() {
        return String::new();
    }
    let text = |text: &String| serde_json::Value::String(text.clone());
    let tags = labels.iter().map(|(name, value)| (name.clone(), text(value)));
    serde_json::Value::Object(tags.collect()).to_string()
}

fn description(row: &RatedRow) -> String {
    use wharf_shared::usage::Quality;
    let usage = match &row.charge {
        Charge::Usage(charge) => &charge.usage,
        Charge::Credit { name, .. } => return format!("Credit {name}"),
        Charge::Tax { class, rate_percent, .. } => return format!("Tax {class} {rate_percent} %"),
        Charge::Adjustment { .. } => return "Rounding of the statement's lines".to_owned(),
    };
    let mut text = usage.meter.title().to_owned();
    if usage.container.is_none() {
        text.push_str(" outside containers");
    }
    text.push_str(match usage.quality {
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
    use wharf_shared::time::{HOUR_US, Timestamp};

    use super::*;
    use crate::rating::tests::{books, rate, usage};

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
        let Charge::Usage(usage) = &mut rated.charge else { panic!("usage") };
        usage.usage.labels = [label("app", "a \"shop\", 2"), label("=tier", "=1+1")].into();
        assert_eq!(tags(&rated, &context()), r#"{"=tier":"=1+1","app":"a \"shop\", 2"}"#);
        assert!(line(&rated, &context()).contains(r#","{""=tier"":""=1+1"",""app"":""a \""shop\"", 2""}","#));
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let december = at("2026-12-31T23:00:00Z");
        assert_eq!(period(december), (at("2026-12-01"), at("2027-01-01")));
        assert_eq!(period(Timestamp(december.0 + HOUR_US)), (at("2027-01-01"), at("2027-02-01")));
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
