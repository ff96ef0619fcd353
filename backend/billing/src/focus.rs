//! Rows of FOCUS 1.2 (the `FinOps` foundation's open specification of costs, dataset `CostAndUsage`), as CSV
//! or Parquet.
//!
//! All 57 columns are there ([`schema`]), in alphabetical order, then our own with `x_`. Costs are unit price ×
//! pricing quantity to the last digit. Names that people give begin with a letter or digit (`shared::name`), so
//! no field is taken for a formula by a spreadsheet; values are never rewritten.

pub mod metadata;
pub mod schema;
pub mod value;
pub(crate) mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;

use wharf_shared::id::{ContractId, PriceBookId};
use wharf_shared::time::Timestamp;

use crate::amount::Amount;
use crate::csv;
use crate::price::Tier;
use crate::rating::{RatedRow, UsageCharge, period};
use schema::Kind;
use value::Value;

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

/// On which bill a row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnBill<'a> {
    /// Number of the statement, once it is issued.
    pub invoice: Option<&'a str>,
    /// The period that is billed, `[from, to)`; that in which the charge was incurred when absent.
    pub period: Option<(Timestamp, Timestamp)>,
    /// Whether the row corrects what an earlier bill has said.
    pub is_correction: bool,
}

/// Our own columns, after those of FOCUS.
pub const OWN_COLUMNS: [(&str, Kind); 9] = [
    ("x_ContractId", Kind::Text),
    ("x_HostId", Kind::Text),
    ("x_MeteredQuantity", Kind::Text),
    ("x_MeteredUnit", Kind::Text),
    ("x_Policy", Kind::Text),
    ("x_PriceBookVersion", Kind::Text),
    ("x_Quality", Kind::Text),
    ("x_Relief", Kind::Text),
    ("x_Unattributed", Kind::Text),
];

/// Columns of a file.
const COUNT: usize = schema::COLUMNS.len() + OWN_COLUMNS.len();

/// Every column of a file, in its order.
pub fn columns() -> Vec<(&'static str, Kind)> {
    schema::COLUMNS.iter().map(|column| (column.name, column.kind)).chain(OWN_COLUMNS).collect()
}

/// The first line of a CSV file.
pub fn header() -> String {
    csv::write_line(columns().into_iter().map(|(name, _)| Some(name)))
}

/// The line of a row that is on no bill yet.
pub fn line(row: &RatedRow, context: &FocusContext) -> String {
    let mut text = String::new();
    write_line(&mut text, row, OnBill::default(), context);
    text
}

/// Adds the line of a row.
pub fn write_line(text: &mut String, row: &RatedRow, bill: OnBill<'_>, context: &FocusContext) {
    for (at, (_, value)) in fields(row, bill, context).iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        csv::write_field(text, value.to_text().as_deref());
    }
    text.push_str("\r\n");
}

/// A value for each column, in their order.
pub fn values<'a>(
    row: &'a RatedRow,
    bill: OnBill<'a>,
    context: &'a FocusContext,
) -> impl Iterator<Item = Value<'a>> + use<'a> {
    fields(row, bill, context).into_iter().map(|(_, value)| value)
}

/// The fields of a row, each beside its column's name.
fn fields<'a>(
    row: &'a RatedRow,
    bill: OnBill<'a>,
    context: &'a FocusContext,
) -> [(&'static str, Value<'a>); COUNT] {
    use Value::{Null, Time};
    let text = |text: &'a str| Value::text(text);
    let optional = |text: Option<&'a str>| text.map_or(Null, Value::text);
    let number = |number: Amount| Value::Number(Cow::Owned(number));
    let charge = row.usage();
    let of = |value: fn(&'a UsageCharge) -> Value<'a>| charge.map_or(Null, value);
    let borrowed = |number: fn(&'a UsageCharge) -> &'a Amount| {
        charge.map_or(Null, |charge| Value::Number(Cow::Borrowed(number(charge))))
    };
    let service = charge.map_or(words::WHOLE, |charge| words::service(charge.usage.meter));
    let container = charge.and_then(|charge| charge.usage.container.as_ref());
    let resource = container.map_or(Null, |id| {
        Value::text(format!("wharfage://{}/{}/containers/{id}", context.region, row.tenant))
    });
    let period = bill.period.unwrap_or_else(|| period(row.from));
    let cost = row.billed_cost();
    [
        ("AvailabilityZone", if charge.is_some() { text(&context.host) } else { Null }),
        ("BilledCost", number(cost.clone())),
        ("BillingAccountId", text(&context.billing_account_id)),
        ("BillingAccountName", text(&context.billing_account_name)),
        ("BillingAccountType", text("Account")),
        ("BillingCurrency", text(&row.currency)),
        ("BillingPeriodEnd", Time(period.1)),
        ("BillingPeriodStart", Time(period.0)),
        ("CapacityReservationId", Null),
        ("CapacityReservationStatus", Null),
        ("ChargeCategory", text(row.category().as_str())),
        ("ChargeClass", if bill.is_correction { text("Correction") } else { Null }),
        ("ChargeDescription", Value::text(words::description(row))),
        ("ChargeFrequency", text(if charge.is_some() { "Usage-Based" } else { "One-Time" })),
        ("ChargePeriodEnd", Time(row.to)),
        ("ChargePeriodStart", Time(row.from)),
        ("CommitmentDiscountCategory", Null),
        ("CommitmentDiscountId", Null),
        ("CommitmentDiscountName", Null),
        ("CommitmentDiscountQuantity", Null),
        ("CommitmentDiscountStatus", Null),
        ("CommitmentDiscountType", Null),
        ("CommitmentDiscountUnit", Null),
        ("ConsumedQuantity", of(consumed)),
        ("ConsumedUnit", of(|charge| Value::text(charge.usage.meter.pricing_unit()))),
        ("ContractedCost", number(cost.clone())),
        ("ContractedUnitPrice", borrowed(|charge| &charge.contracted_unit_price)),
        // Nothing is paid ahead and nothing is committed to: what is billed is what it costs.
        ("EffectiveCost", number(cost.clone())),
        ("InvoiceId", optional(bill.invoice)),
        ("InvoiceIssuerName", text(&context.provider_name)),
        ("ListCost", number(row.list_cost())),
        ("ListUnitPrice", borrowed(|charge| &charge.list_unit_price)),
        ("PricingCategory", of(|_| Value::text("Standard"))),
        // Prices are in the currency of the bill. Said all the same: where these columns are, they are not null.
        ("PricingCurrency", text(&row.currency)),
        ("PricingCurrencyContractedUnitPrice", borrowed(|charge| &charge.contracted_unit_price)),
        ("PricingCurrencyEffectiveCost", number(cost)),
        ("PricingCurrencyListUnitPrice", borrowed(|charge| &charge.list_unit_price)),
        ("PricingQuantity", borrowed(|charge| &charge.quantity)),
        ("PricingUnit", of(|charge| Value::text(charge.unit.as_str()))),
        ("ProviderName", text(&context.provider_name)),
        ("PublisherName", text(&context.provider_name)),
        ("RegionId", text(&context.region)),
        ("RegionName", text(&context.region)),
        ("ResourceId", resource),
        ("ResourceName", of(|charge| Value::text(charge.usage.container_name.as_str()))),
        ("ResourceType", container.map_or(Null, |_| Value::text("Container"))),
        ("ServiceCategory", text(service.category)),
        ("ServiceName", text(service.name)),
        ("ServiceSubcategory", text(service.subcategory)),
        ("SkuId", of(|charge| Value::text(charge.sku))),
        ("SkuMeter", of(|charge| Value::text(charge.usage.meter.title()))),
        ("SkuPriceDetails", of(details)),
        ("SkuPriceId", of(|charge| Value::text(format!("{}.{}", charge.sku, charge.tier)))),
        ("SubAccountId", text(row.tenant.as_str())),
        ("SubAccountName", text(&row.tenant_name)),
        ("SubAccountType", text("Tenant")),
        ("Tags", of(|charge| object(&charge.usage.labels))),
        ("x_ContractId", optional(row.contract.as_ref().map(ContractId::as_str))),
        ("x_HostId", text(&context.host)),
        ("x_MeteredQuantity", of(|charge| Value::text(charge.usage.quantity.to_string()))),
        ("x_MeteredUnit", of(|charge| Value::text(charge.usage.meter.unit()))),
        ("x_Policy", of(|charge| Value::text(charge.policy))),
        ("x_PriceBookVersion", optional(row.price_book.as_ref().map(PriceBookId::as_str))),
        ("x_Quality", of(|charge| Value::text(charge.usage.quality.as_str()))),
        ("x_Relief", of(|charge| charge.relief.map_or(Null, |relief| Value::text(relief.as_str())))),
        ("x_Unattributed", of(|charge| Value::text(charge.usage.container.is_none().to_string()))),
    ]
}

/// What was metered, in the meter's usual unit, which always ends in decimal.
fn consumed(charge: &UsageCharge) -> Value<'_> {
    let exponent = charge.usage.meter.pricing_unit_exponent();
    Value::Number(Cow::Owned(Amount::from_units(charge.usage.quantity, exponent)))
}

/// Which of the SKU's prices it is, where there are several.
fn details(charge: &UsageCharge) -> Value<'_> {
    match charge.tier {
        Tier::Standard => Value::Null,
        tier => object(&BTreeMap::from([("x_Tier", tier.to_string())])),
    }
}

/// A flat object of texts; null without any.
fn object<K: serde::Serialize + Ord>(pairs: &BTreeMap<K, String>) -> Value<'static> {
    if pairs.is_empty() {
        return Value::Null;
    }
    // Keys and values are texts, which always can be written.
    serde_json::to_string(pairs).map_or(Value::Null, Value::text)
}

#[cfg(test)]
pub(crate) mod tests {
    use wharf_shared::usage::Meter;

    use super::*;
    use crate::rating::Charge;
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
        let names: Vec<_> = columns().into_iter().map(|(name, _)| name).collect();
        let (focus, own) = names.split_at(57);
        assert!(focus.is_sorted() && own.is_sorted());
        assert!(
            own.iter().all(|name| name.starts_with("x_")) && !focus.iter().any(|name| name.starts_with("x_"))
        );
        let rated = rate(&books(&[], false), usage(Some(1), Meter::CpuUsed, 1));
        let context = context();
        assert!(
            fields(&rated, OnBill::default(), &context).iter().map(|(name, _)| name).eq(&names),
            "a value without its column"
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
        let Charge::Usage(charge) = &mut rated.charge else { panic!("it is usage") };
        assert_eq!(object(&charge.usage.labels), Value::Null);
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        charge.usage.labels = [label("app", "a \"shop\", 2"), label("=tier", "=1+1")].into();
        assert_eq!(object(&charge.usage.labels), Value::text(r#"{"=tier":"=1+1","app":"a \"shop\", 2"}"#));
        assert!(line(&rated, &context()).contains(r#","{""=tier"":""=1+1"",""app"":""a \""shop\"", 2""}","#));
    }

    #[test]
    fn no_field_is_taken_for_a_formula() {
        let rated = rate(&books(&[], false), usage(Some(1), Meter::CpuUsed, 0));
        let context = context();
        for (name, value) in fields(&rated, OnBill::default(), &context) {
            let text = value.to_text().unwrap_or_default();
            assert!(!text.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name}: {text}");
        }
    }
}
