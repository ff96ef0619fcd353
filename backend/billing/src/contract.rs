//! Contracts: what one tenant pays in place of what the price book says.

use std::collections::{BTreeMap, BTreeSet};

use wharf_shared::billing::{ContractSpec, ContractView, CreditSpec};
use wharf_shared::id::{ContractId, TenantId};
use wharf_shared::problem::FieldProblem;
use wharf_shared::time::Timestamp;

use crate::amount::Amount;
use crate::price::{is_sku, is_word, number_problems, problem};

/// SKUs, credits and tax classes of one contract, each.
pub const ENTRIES_MAX: usize = 100;
/// Days in which a statement is to be paid, at most.
pub const PAYMENT_DAYS_MAX: u32 = 365;

/// A contract, ready for rating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Id.
    pub id: ContractId,
    /// First hour.
    pub from: Timestamp,
    /// The hour after the last.
    pub to: Option<Timestamp>,
    /// Credits, as they were given.
    pub credits: Vec<CreditSpec>,
    /// Parts of a whole that are tax, by tax class.
    pub taxes: BTreeMap<String, Amount>,
    /// Days in which a statement is to be paid.
    pub payment_days: Option<u32>,
    /// What of a price is left after the discount.
    share: Amount,
    terms: BTreeMap<String, Terms>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    share: Option<Amount>,
    unit_price: Option<Amount>,
    free_quantity: Option<Amount>,
}

impl Contract {
    fn new(view: &ContractView) -> Self {
        let spec = &view.contract;
        let terms = spec.terms.iter().map(|terms| {
            let [unit_price, free_quantity] =
                [&terms.unit_price, &terms.free_quantity].map(|value| value.as_ref().map(Amount::from));
            let share = terms.discount_percent.as_ref().map(|percent| rest(&Amount::from(percent)));
            (terms.sku.clone(), Terms { share, unit_price, free_quantity })
        });
        let taxes =
            spec.taxes.iter().map(|(class, percent)| (class.clone(), hundredth(&Amount::from(percent))));
        Self {
            id: view.id.clone(),
            from: spec.from,
            to: spec.to,
            credits: spec.credits.clone(),
            taxes: taxes.collect(),
            payment_days: spec.payment_days,
            share: spec
                .discount_percent
                .as_ref()
                .map_or_else(Amount::one, |percent| rest(&Amount::from(percent))),
            terms: terms.collect(),
        }
    }

    /// What the tenant pays for a unit that costs so much by the book. What is free stays free.
    pub fn unit_price(&self, sku: &str, list: &Amount) -> Amount {
        if list.is_zero() {
            return Amount::zero();
        }
        let terms = self.terms.get(sku);
        match terms.and_then(|terms| terms.unit_price.as_ref()) {
            Some(own) => own.clone(),
            None => list.times(terms.and_then(|terms| terms.share.as_ref()).unwrap_or(&self.share)),
        }
    }

    /// Units of a SKU that are free in each period.
    pub fn free_quantity(&self, sku: &str) -> Option<&Amount> {
        self.terms.get(sku).and_then(|terms| terms.free_quantity.as_ref())
    }
}

/// Percent as a part of one.
pub fn hundredth(percent: &Amount) -> Amount {
    percent.times(&Amount::from_units(1, 2))
}

/// What is left when so many percent are taken away.
fn rest(percent: &Amount) -> Amount {
    Amount::one().minus(&hundredth(percent))
}

/// Every contract of every tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contracts(BTreeMap<TenantId, BTreeMap<Timestamp, Contract>>);

/// A contract cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("contract {id}, {}: {}", problem.field, problem.detail)]
pub struct ContractError {
    /// Which.
    pub id: ContractId,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

impl Contracts {
    /// Takes contracts in any order.
    ///
    /// # Errors
    ///
    /// The first that [`problems`] finds fault with, or that overlaps one before it.
    pub fn new(views: &[ContractView]) -> Result<Self, ContractError> {
        let mut contracts = Self::default();
        for view in views {
            let mut found = problems(&view.contract);
            found.extend(contracts.overlap(&view.contract));
            if let Some(problem) = found.into_iter().next() {
                return Err(ContractError { id: view.id.clone(), problem });
            }
            let own = contracts.0.entry(view.contract.tenant.clone()).or_default();
            own.insert(view.contract.from, Contract::new(view));
        }
        Ok(contracts)
    }

    /// The contract that a new one of the same tenant would share hours with, as a problem of its begin.
    pub fn overlap(&self, spec: &ContractSpec) -> Option<FieldProblem> {
        let other = self.of(&spec.tenant).find(|other| {
            other.to.is_none_or(|to| spec.from < to) && spec.to.is_none_or(|to| other.from < to)
        })?;
        let to = other.to.map_or_else(|| "without an end".to_owned(), |to| format!("until {to}"));
        let detail = format!(
            "the tenant has the contract {} from {} {to}; give that an end first, or choose other hours",
            other.id, other.from
        );
        Some(problem("from", detail))
    }

    /// The tenant's contract in this hour.
    pub fn at(&self, tenant: &TenantId, hour: Timestamp) -> Option<&Contract> {
        let last = self.0.get(tenant)?.range(..=hour).next_back().map(|(_, contract)| contract)?;
        last.to.is_none_or(|to| hour < to).then_some(last)
    }

    /// Whether what an hour costs depends on the hours before it in its period.
    pub fn has_memory(&self) -> bool {
        let mut contracts = self.0.values().flat_map(BTreeMap::values);
        contracts.any(|contract| contract.terms.values().any(|terms| terms.free_quantity.is_some()))
    }

    /// The tenant's contracts, the first first.
    pub fn of(&self, tenant: &TenantId) -> impl Iterator<Item = &Contract> {
        self.0.get(tenant).into_iter().flat_map(BTreeMap::values)
    }
}

/// Checks what can be checked without the tenant's other contracts, and says all that is wrong.
pub fn problems(spec: &ContractSpec) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    for (name, time) in [("from", Some(spec.from)), ("to", spec.to)] {
        if time.is_some_and(|time| time != time.hour_start()) {
            found.push(problem(name, "a full hour of UTC is needed".to_owned()));
        }
    }
    if spec.to.is_some_and(|to| to <= spec.from) {
        found.push(problem("to", "the contract ends before it begins".to_owned()));
    }
    percent_problems(spec.discount_percent.as_ref(), "discount_percent", &mut found);
    let counts = [("terms", spec.terms.len()), ("credits", spec.credits.len()), ("taxes", spec.taxes.len())];
    for (name, _) in counts.iter().filter(|(_, count)| *count > ENTRIES_MAX) {
        found.push(problem(name, format!("at most {ENTRIES_MAX}")));
    }
    let mut skus = BTreeSet::new();
    for (at, terms) in spec.terms.iter().enumerate() {
        let field = |name: &str| format!("terms[{at}].{name}");
        if !is_sku(&terms.sku) {
            let detail = format!("{:?} is no SKU; it is a meter, or cpu or memory", terms.sku);
            found.push(problem(&field("sku"), detail));
        }
        if !skus.insert(&terms.sku) {
            found.push(problem(&field("sku"), "the SKU has terms already".to_owned()));
        }
        percent_problems(terms.discount_percent.as_ref(), &field("discount_percent"), &mut found);
        number_problems(terms.unit_price.as_ref(), &field("unit_price"), &mut found);
        number_problems(terms.free_quantity.as_ref(), &field("free_quantity"), &mut found);
        if terms.discount_percent.is_some() && terms.unit_price.is_some() {
            let detail = "a price of one's own has no discount; give one or the other".to_owned();
            found.push(problem(&field("discount_percent"), detail));
        }
    }
    let mut names = BTreeSet::new();
    for (at, credit) in spec.credits.iter().enumerate() {
        number_problems(Some(&credit.amount), &format!("credits[{at}].amount"), &mut found);
        word_problems(&credit.name, &format!("credits[{at}].name"), &mut found);
        if !names.insert(&credit.name) {
            found.push(problem(&format!("credits[{at}].name"), "another credit has this name".to_owned()));
        }
    }
    for (class, percent) in &spec.taxes {
        word_problems(class, &format!("taxes.{class}"), &mut found);
        percent_problems(Some(percent), &format!("taxes.{class}"), &mut found);
    }
    if spec.payment_days.is_some_and(|days| days > PAYMENT_DAYS_MAX) {
        found.push(problem("payment_days", format!("at most {PAYMENT_DAYS_MAX}")));
    }
    found
}

fn word_problems(text: &str, field: &str, found: &mut Vec<FieldProblem>) {
    if !is_word(text) {
        let detail = "1 to 40 letters, digits, spaces and ._-, a letter or digit first".to_owned();
        found.push(problem(field, detail));
    }
}

fn percent_problems(
    percent: Option<&wharf_shared::decimal::Decimal>,
    field: &str,
    found: &mut Vec<FieldProblem>,
) {
    let Some(amount) = percent.map(Amount::from) else { return };
    if amount.is_negative() || amount > Amount::from_units(100, 0) || amount.fraction_digits() > 6 {
        found.push(problem(field, "percent: 0 to 100, at most 6 digits after the point".to_owned()));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) const TENANT: &str = "tnt_00000000-0000-7000-8000-000000000001";

    pub(crate) fn contract(number: u32, said: Value) -> ContractView {
        let mut whole = json!({ "tenant": TENANT, "from": "2020-01-01T00:00:00Z" });
        let Value::Object(said) = said else { panic!("an object") };
        whole.as_object_mut().expect("an object").extend(said);
        ContractView {
            id: format!("ctr_00000000-0000-7000-8000-{number:012}").parse().expect("an id"),
            contract: serde_json::from_value(whole).expect("a contract"),
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_contract() {
        for (said, field) in [
            (json!({ "from": "2020-01-01T00:30:00Z" }), "from"),
            (json!({ "to": "2019-01-01T00:00:00Z" }), "to"),
            (json!({ "discount_percent": "100.1" }), "discount_percent"),
            (json!({ "discount_percent": "-1" }), "discount_percent"),
            (json!({ "terms": [{ "sku": "gpu" }] }), "terms[0].sku"),
            (json!({ "terms": [{ "sku": "cpu" }, { "sku": "cpu" }] }), "terms[1].sku"),
            (json!({ "terms": [{ "sku": "cpu", "unit_price": "-1" }] }), "terms[0].unit_price"),
            (
                json!({ "terms": [{ "sku": "cpu", "unit_price": "1", "discount_percent": "1" }] }),
                "terms[0].discount_percent",
            ),
            (json!({ "credits": [{ "name": "=x", "amount": "1" }] }), "credits[0].name"),
            (json!({ "credits": [{ "name": "x", "amount": "-1" }] }), "credits[0].amount"),
            (json!({ "taxes": { "standard": "101" } }), "taxes.standard"),
            (json!({ "payment_days": 366 }), "payment_days"),
        ] {
            let error = Contracts::new(&[contract(1, said)]).expect_err(field);
            assert_eq!(error.problem.field, field);
        }
    }

    #[test]
    fn two_contracts_of_a_tenant_never_share_an_hour() {
        let first = contract(1, json!({ "from": "2020-01-01T10:00:00Z", "to": "2020-01-01T20:00:00Z" }));
        for (from, to, fits) in [
            ("2020-01-01T20:00:00Z", Value::Null, true),
            ("2020-01-01T05:00:00Z", json!("2020-01-01T10:00:00Z"), true),
            ("2020-01-01T05:00:00Z", json!("2020-01-01T11:00:00Z"), false),
            ("2020-01-01T05:00:00Z", Value::Null, false),
            ("2020-01-01T12:00:00Z", json!("2020-01-01T13:00:00Z"), false),
        ] {
            let second = contract(2, json!({ "from": from, "to": to }));
            assert_eq!(Contracts::new(&[first.clone(), second]).is_ok(), fits, "{from} {to}");
        }
        let contracts = Contracts::new(&[first]).expect("one");
        let tenant = TENANT.parse().expect("an id");
        let at = |hour: &str| contracts.at(&tenant, hour.parse().expect("a time")).is_some();
        assert_eq!([at("2020-01-01T09:00:00Z"), at("2020-01-01T10:00:00Z")], [false, true]);
        assert_eq!([at("2020-01-01T19:00:00Z"), at("2020-01-01T20:00:00Z")], [true, false]);
    }

    #[test]
    fn a_price_of_ones_own_counts_before_a_discount_and_nothing_makes_free_things_dear() {
        let said = json!({ "discount_percent": "12.5", "terms": [
            { "sku": "cpu", "unit_price": "0.3" }, { "sku": "memory", "discount_percent": "50" }] });
        let contract = Contract::new(&contract(1, said));
        let price =
            |sku: &str, list: &str| contract.unit_price(sku, &list.parse().expect("a price")).to_string();
        assert_eq!(price("network_internet_out", "0.08"), "0.07");
        assert_eq!(price("cpu", "0.08"), "0.3");
        assert_eq!(price("memory", "0.08"), "0.04");
        assert_eq!(price("cpu", "0"), "0");
    }
}
