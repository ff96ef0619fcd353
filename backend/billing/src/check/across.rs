//! What must hold between rows. Of a row only a hash and of most columns nothing is kept, so a file may be
//! far larger than memory: about 32 bytes a row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Report, Row};
use crate::amount::Amount;
use crate::currency;

/// A value that must be the same wherever a key is: the key's columns, the value's, the rule, and why.
struct Same {
    keys: &'static [&'static str],
    value: &'static str,
    rule: &'static str,
    why: &'static str,
}

const SAME: [Same; 9] = [
    Same {
        keys: &["SkuPriceId"],
        value: "SkuId",
        rule: "price-id-parent",
        why: "a price belongs to one SKU",
    },
    Same { keys: &["SkuId"], value: "ServiceName", rule: "sku-service", why: "a SKU belongs to one service" },
    Same {
        keys: &["ServiceName"],
        value: "ServiceCategory",
        rule: "service-category",
        why: "a service has one category",
    },
    Same {
        keys: &["ServiceName"],
        value: "ServiceSubcategory",
        rule: "service-category",
        why: "a service has one subcategory",
    },
    Same { keys: &["RegionId"], value: "RegionName", rule: "one-name", why: "a region has one name" },
    Same {
        keys: &["BillingAccountId", "BillingPeriodStart"],
        value: "BillingPeriodEnd",
        rule: "billing-period",
        why: "the periods of an account do not overlap",
    },
    Same {
        keys: &["InvoiceId"],
        value: "BillingCurrency",
        rule: "invoice-currency",
        why: "an invoice has one currency",
    },
    Same {
        keys: &["InvoiceId"],
        value: "BillingAccountId",
        rule: "invoice-account",
        why: "an invoice goes to one account",
    },
    Same {
        keys: &["SubAccountId", "ChargePeriodStart", "ChargeClass"],
        value: "SubAccountName",
        rule: "one-name",
        why: "a sub account has one name at a time",
    },
];

/// What was seen in the rows so far.
#[derive(Default)]
pub(super) struct Across {
    rows: HashSet<u128>,
    keys: HashSet<u128>,
    prices: HashMap<u64, (u64, String)>,
    values: HashMap<(usize, u64), String>,
    invoiced: Option<bool>,
    sums: BTreeMap<(String, String), Amount>,
}

impl Across {
    pub(super) fn check(&mut self, row: &Row<'_>, is_own: bool, report: &mut Report) {
        if !self.rows.insert(wide_hash(row.fields)) {
            report.add(row.at, "", "row-once", "a row that was there before", "each charge once");
        } else if is_own && !self.keys.insert(wide_hash(&super::own::key(row))) {
            let expected = "one row for each container, price and hour";
            report.add(row.at, "", "charge-once", "another row of the same charge", expected);
        }
        for (number, same) in SAME.iter().enumerate() {
            let Some(value) = row.get(same.value) else { continue };
            if same.keys.iter().all(|key| row.get(key).is_none()) {
                continue;
            }
            let key: Vec<Option<&str>> = same.keys.iter().map(|key| row.get(key)).collect();
            let first = self.values.entry((number, hash(&key))).or_insert_with(|| value.to_owned());
            if first != value {
                let expected = format!("{first}, as before: {}", same.why);
                report.add(row.at, same.value, same.rule, value, expected);
            }
        }
        self.price(row, report);
        self.invoice(row, report);
    }

    /// One price has one list price at a time.
    fn price(&mut self, row: &Row<'_>, report: &mut Report) {
        let (Some(id), Some(price)) = (row.get("SkuPriceId"), row.number("ListUnitPrice")) else { return };
        if row.is("ChargeClass", "Correction") {
            return;
        }
        let key = [
            Some(id),
            row.get("BillingCurrency"),
            row.get("PricingUnit"),
            row.get("RegionId"),
            row.get("x_PriceBookVersion"),
            // What a tenant used outside its containers may be free.
            row.get("ResourceId").map(|_| ""),
        ];
        let start = row.get("ChargePeriodStart");
        let (key, start) = (hash(&key), hash(&start));
        // Files are in the order of hours, so what was before is not asked for again.
        let (hour, first) = self.prices.entry(key).or_insert_with(|| (start, price.to_string()));
        if *hour != start {
            (*hour, *first) = (start, price.to_string());
        } else if *first != price.to_string() {
            let expected = format!("{first}, as in another row of that time");
            report.add(row.at, "ListUnitPrice", "one-list-price", &price.to_string(), expected);
        }
    }

    fn invoice(&mut self, row: &Row<'_>, report: &mut Report) {
        if !row.has("InvoiceId") {
            return;
        }
        let invoice = row.get("InvoiceId");
        let first = *self.invoiced.get_or_insert(invoice.is_some());
        if first != invoice.is_some() {
            let expected = "what is invoiced and what is not in files of their own";
            report.add(row.at, "InvoiceId", "invoiced-apart", invoice.unwrap_or("null"), expected);
        }
        if let (Some(invoice), Some(currency), Some(billed)) =
            (invoice, row.get("BillingCurrency"), row.number("BilledCost"))
        {
            let key = (invoice.to_owned(), currency.to_owned());
            let sum = self.sums.entry(key).or_insert_with(Amount::zero);
            *sum = sum.plus(&billed);
        }
    }

    /// What can only be said at the end: an invoice is an amount that can be paid.
    pub(super) fn finish(&self, report: &mut Report) {
        for ((invoice, code), sum) in &self.sums {
            let digits = currency::digits(code);
            if sum.fraction_digits() > u64::from(digits) {
                let expected = format!("a sum of invoice {invoice} in {code} with {digits} digits");
                report.add(0, "BilledCost", "invoice-sum", &sum.to_string(), expected);
            }
        }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Wide enough that no two rows of any file meet by chance.
fn wide_hash(value: &(impl Hash + ?Sized)) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
