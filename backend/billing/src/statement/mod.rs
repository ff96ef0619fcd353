//! Statements: rated rows become lines, and lines become what is owed.
//!
//! Rows with the same price are one line; its exact amount is price × the sum of its quantities, which is
//! the sum of its rows. Only here money is rounded: each line to whole smallest units of the currency. The
//! total is the sum of the rounded lines, and what that differs by from the exact rows is one row of its
//! own, so that all rows add up to what is owed.
//!
//! Credits are whole smallest units and never more than the lines before them; what expires first is used
//! first. They take from the tax classes in the lines' order. Tax is computed from the rounded lines, so
//! that whoever has the paper can compute it again.

mod page;

use std::collections::BTreeMap;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use wharf_shared::billing::{PricingUnit, Rounding};
use wharf_shared::id::{ContractId, PriceBookId, TenantId};
use wharf_shared::statement::{LineCategory, StatementKind, StatementLine, StatementStatus, StatementView};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Quality;

pub use self::page::{csv, html};
use crate::amount::{Amount, TooLong};
use crate::contract::Contracts;
use crate::price::{PriceBooks, STANDARD_TAX_CLASS, Tier};
use crate::rating::{Charge, RatedRow, Relief, UsageCharge};
use crate::rounding;

/// What makes rows one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LineKey {
    sku: &'static str,
    unit: PricingUnit,
    tier: Tier,
    policy: &'static str,
    relief: Option<Relief>,
    is_unattributed: bool,
    is_measurable: bool,
    list_unit_price: Amount,
    unit_price: Amount,
    tax_class: String,
}

/// A line in the making.
#[derive(Debug, Clone)]
struct Sum {
    key: LineKey,
    title: &'static str,
    quantity: Amount,
    quality: Quality,
    partial_rows: u64,
    rows: u64,
}

/// Credit that a tenant still has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditLeft {
    /// The contract that gives it.
    pub contract: ContractId,
    /// Its name in the contract.
    pub name: String,
    /// How much is left.
    pub left: Amount,
}

/// Which credit of which contract.
pub type CreditKey = (ContractId, String);

/// What of a tenant's credits can be used for a period that begins at `from`, in the order in which it is:
/// what expires first, then the older contract's. `used` is what other statements have used.
pub fn credits_left(
    contracts: &Contracts,
    tenant: &TenantId,
    (from, to): (Timestamp, Timestamp),
    used: &BTreeMap<CreditKey, Amount>,
) -> Vec<CreditLeft> {
    let in_force = contracts
        .of(tenant)
        .filter(|contract| contract.from < to && contract.to.is_none_or(|end| from < end));
    let mut credits: Vec<_> = in_force
        .flat_map(|contract| contract.credits.iter().map(move |credit| (contract, credit)))
        .filter(|(_, credit)| credit.expires_at.is_none_or(|expires| from < expires))
        .collect();
    credits.sort_by_key(|(contract, credit)| {
        (credit.expires_at.is_none(), credit.expires_at, contract.from, credit.name.clone())
    });
    let left = credits.into_iter().map(|(contract, credit)| {
        let key = (contract.id.clone(), credit.name.clone());
        let spent = used.get(&key).cloned().unwrap_or_else(Amount::zero);
        CreditLeft { contract: key.0, name: key.1, left: Amount::from(&credit.amount).minus(&spent) }
    });
    left.filter(|credit| !credit.left.is_zero() && !credit.left.is_negative()).collect()
}

/// One statement of a tenant and a period in the making.
#[derive(Debug, Clone)]
pub struct StatementBuilder<'a> {
    books: &'a PriceBooks,
    contracts: &'a Contracts,
    tenant: TenantId,
    tenant_name: String,
    period: (Timestamp, Timestamp),
    sums: Vec<Sum>,
    exact: Amount,
    evidence: Sha256,
    /// A row's bytes of the evidence, on their way into it.
    bytes: Vec<u8>,
    price_books: Vec<PriceBookId>,
    contract_ids: Vec<ContractId>,
}

/// A statement, and the rows that are no usage: they and the rated rows add up to its total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The statement, open and without a number.
    pub view: StatementView,
    /// Credits, taxes and the adjustment.
    pub rows: Vec<RatedRow>,
    /// What of each credit it uses.
    pub credits: Vec<(CreditKey, Amount)>,
}

impl<'a> StatementBuilder<'a> {
    /// Begins a statement without lines.
    pub fn new(
        books: &'a PriceBooks,
        contracts: &'a Contracts,
        tenant: TenantId,
        tenant_name: String,
        period: (Timestamp, Timestamp),
    ) -> Self {
        Self {
            books,
            contracts,
            tenant,
            tenant_name,
            period,
            sums: Vec::new(),
            exact: Amount::zero(),
            evidence: Sha256::new(),
            bytes: Vec::new(),
            price_books: Vec::new(),
            contract_ids: Vec::new(),
        }
    }

    /// Adds rows of usage, in the order in which they were rated.
    pub fn add(&mut self, rows: &[RatedRow]) {
        for row in rows {
            if let Charge::Usage(charge) = &row.charge {
                self.add_usage(row, charge);
            }
        }
    }

    fn add_usage(&mut self, row: &RatedRow, charge: &UsageCharge) {
        digest(&mut self.evidence, &mut self.bytes, row, charge);
        if *row.tenant_name != *self.tenant_name {
            self.tenant_name = row.tenant_name.to_string();
        }
        if let Some(id) = &row.price_book
            && self.price_books.last() != Some(id)
            && !self.price_books.contains(id)
        {
            self.price_books.push(id.clone());
        }
        if let Some(id) = &row.contract
            && self.contract_ids.last() != Some(id)
            && !self.contract_ids.contains(id)
        {
            self.contract_ids.push(id.clone());
        }
        let quality = charge.usage.quality;
        // What no price is for is no line, unless it is to be seen that it is missing or outside containers.
        if charge.policy == "none" && charge.usage.container.is_some() && quality != Quality::NotMeasurable {
            return;
        }
        let partial = u64::from(quality == Quality::Partial);
        let tax_class = tax_class(self.books, row, charge);
        let known = self.sums.iter_mut().find(|sum| is_same(&sum.key, charge, tax_class));
        if let Some(sum) = known {
            sum.quantity = sum.quantity.plus(&charge.quantity);
            sum.quality = sum.quality.and(quality);
            sum.partial_rows = sum.partial_rows.saturating_add(partial);
            sum.rows = sum.rows.saturating_add(1);
            return;
        }
        let key = LineKey {
            sku: charge.sku,
            unit: charge.unit,
            tier: charge.tier,
            policy: charge.policy,
            relief: charge.relief,
            is_unattributed: is_unattributed(charge),
            is_measurable: quality != Quality::NotMeasurable,
            list_unit_price: charge.list_unit_price.clone(),
            unit_price: charge.contracted_unit_price.clone(),
            tax_class: tax_class.to_owned(),
        };
        let title = match charge.sku {
            "cpu" => "CPU",
            "memory" => "Memory",
            _ => charge.usage.meter.title(),
        };
        let quantity = charge.quantity.clone();
        self.sums.push(Sum { key, title, quantity, quality, partial_rows: partial, rows: 1 });
    }

    /// Rounds the lines, uses credits, adds tax and closes the sum.
    ///
    /// # Errors
    ///
    /// A number that is too long for the wire.
    pub fn finish(mut self, provider: String, credits: Vec<CreditLeft>) -> Result<Made, TooLong> {
        let last_hour = Timestamp(self.period.1.0.saturating_sub(1)).hour_start();
        let rounding = self.books.at(last_hour).map_or(Rounding::HalfEven, |book| book.rounding);
        let currency = self.books.currency().to_owned();
        let payable = |amount: &Amount| rounding::to_payable(amount, &currency, rounding);
        self.sums.sort_by(|a, b| order(&a.key).cmp(&order(&b.key)));
        let mut lines = Vec::new();
        let mut bases: Vec<(String, Amount)> = Vec::new();
        for sum in &self.sums {
            let exact = sum.quantity.times(&sum.key.unit_price);
            let amount = payable(&exact);
            self.exact = self.exact.plus(&exact);
            match bases.iter_mut().find(|(class, _)| *class == sum.key.tax_class) {
                Some((_, base)) => *base = base.plus(&amount),
                None => bases.push((sum.key.tax_class.clone(), amount.clone())),
            }
            lines.push(usage_line(sum, &exact, &amount)?);
        }
        let mut net: Amount = bases.iter().map(|(_, base)| base.clone()).sum();
        let mut rows = Vec::new();
        let mut used = Vec::new();
        for credit in credits {
            let amount = if credit.left < net { credit.left } else { net.clone() };
            // Only whole units can be paid with; what is less than one stays.
            let amount = rounding::to_payable_down(&amount, &currency);
            if amount.is_zero() {
                continue;
            }
            net = net.minus(&amount);
            take(&mut bases, &amount);
            let negative = Amount::zero().minus(&amount);
            self.exact = self.exact.plus(&negative);
            lines.push(other_line(
                LineCategory::Credit,
                format!("Credit {}", credit.name),
                None,
                &negative,
                &negative,
            )?);
            rows.push(
                self.row(
                    Some(&credit.contract),
                    Charge::Credit { name: credit.name.clone(), amount: negative },
                ),
            );
            used.push(((credit.contract, credit.name), amount));
        }
        let contract = self.contracts.at(&self.tenant, last_hour).or_else(|| {
            let of_period = self.contracts.of(&self.tenant).filter(|contract| contract.from < self.period.1);
            of_period.filter(|contract| contract.to.is_none_or(|to| self.period.0 < to)).last()
        });
        let mut tax = Amount::zero();
        for (class, base) in bases.iter().filter(|(_, base)| !base.is_zero()) {
            let Some(rate) = contract.and_then(|contract| contract.taxes.get(class)) else { continue };
            let exact = base.times(rate);
            let amount = payable(&exact);
            tax = tax.plus(&amount);
            self.exact = self.exact.plus(&exact);
            let rate_percent = rate.times(&Amount::from_units(100, 0));
            let what = format!("Tax {class}, {rate_percent} % of {base}");
            lines.push(other_line(LineCategory::Tax, what, Some(class), &exact, &amount)?);
            let charge = Charge::Tax { class: class.clone(), rate_percent, amount: exact };
            rows.push(self.row(contract.map(|contract| &contract.id), charge));
        }
        let total = net.plus(&tax);
        let adjustment = total.minus(&self.exact);
        if !adjustment.is_zero() {
            rows.push(self.row(None, Charge::Adjustment { amount: adjustment.clone() }));
        }
        for (number, line) in (1_u32..).zip(&mut lines) {
            line.line = number;
        }
        let view = StatementView {
            id: live_id(&self.tenant, self.period.0),
            kind: StatementKind::Statement,
            status: StatementStatus::Open,
            provider,
            tenant: self.tenant,
            tenant_name: self.tenant_name,
            from: self.period.0,
            to: self.period.1,
            currency,
            price_books: self.price_books,
            contracts: self.contract_ids,
            lines,
            net: net.to_decimal()?,
            tax: tax.to_decimal()?,
            total: total.to_decimal()?,
            adjustment: adjustment.to_decimal()?,
            evidence_hash: hex(&self.evidence.finalize()),
            late: Vec::new(),
            ended_hosts: Vec::new(),
            ledger_head: None,
            override_reason: None,
            refers_to: None,
            void_reason: None,
            issued_at: None,
            issued_by: None,
            due_at: None,
            paid_at: None,
            content_hash: None,
        };
        Ok(Made { view, rows, credits: used })
    }

    fn row(&self, contract: Option<&ContractId>, charge: Charge) -> RatedRow {
        RatedRow {
            tenant: self.tenant.clone(),
            tenant_name: self.tenant_name.as_str().into(),
            from: self.period.0,
            to: self.period.1,
            currency: self.books.currency().into(),
            price_book: None,
            contract: contract.cloned(),
            charge,
        }
    }
}

fn tax_class<'a>(books: &'a PriceBooks, row: &RatedRow, charge: &UsageCharge) -> &'a str {
    let book = if charge.policy == "none" { None } else { books.at(row.from) };
    book.and_then(|book| book.sku(charge.usage.meter)).map_or(STANDARD_TAX_CLASS, |sku| &sku.tax_class)
}

/// Whether a rated row is one of a line's.
pub fn is_row_of(line: &StatementLine, row: &RatedRow, books: &PriceBooks) -> bool {
    let Some(charge) = row.usage() else { return false };
    let text = |text: &Option<String>, word: &str| text.as_deref() == Some(word);
    let price = |decimal: &Option<wharf_shared::decimal::Decimal>, amount: &Amount| {
        decimal.as_ref().is_some_and(|decimal| Amount::from(decimal) == *amount)
    };
    text(&line.sku, charge.sku)
        && text(&line.tax_class, tax_class(books, row, charge))
        && text(&line.unit, charge.unit.as_str())
        && text(&line.tier, &charge.tier.to_string())
        && text(&line.policy, charge.policy)
        && line.relief.as_deref() == charge.relief.map(Relief::as_str)
        && line.is_unattributed == is_unattributed(charge)
        && (line.quality == Quality::NotMeasurable) == (charge.usage.quality == Quality::NotMeasurable)
        && price(&line.list_unit_price, &charge.list_unit_price)
        && price(&line.unit_price, &charge.contracted_unit_price)
}

/// The id of a statement that has no number yet.
pub fn live_id(tenant: &TenantId, from: Timestamp) -> String {
    let (year, month, _) = from.date();
    format!("{tenant}.{year:04}-{month:02}")
}

/// SHA-256 of what is issued: everything but where it stands and what comes later.
///
/// # Errors
///
/// None but what `serde_json` has for values of other types than these.
pub fn content_hash(view: &StatementView) -> Result<String, serde_json::Error> {
    let issued = StatementView {
        status: StatementStatus::Issued,
        paid_at: None,
        content_hash: None,
        refers_to: view.refers_to.clone().filter(|_| view.kind == StatementKind::CreditNote),
        void_reason: view.void_reason.clone().filter(|_| view.kind == StatementKind::CreditNote),
        ..view.clone()
    };
    Ok(bytes_hash(&serde_json::to_vec(&issued)?))
}

/// The hash of a document as it is stored: of its bytes with `null` in the place of `hash`, so that what this
/// version does not know of it counts too. `None` if `hash` does not stand in it just once.
pub fn stored_hash(body: &str, hash: &str) -> Option<String> {
    let member = format!("\"content_hash\":\"{hash}\"");
    let (before, after) = body.split_once(&member)?;
    if after.contains(&member) {
        return None;
    }
    Some(bytes_hash(format!("{before}\"content_hash\":null{after}").as_bytes()))
}

/// SHA-256 in hexadecimal digits.
pub fn bytes_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The credit note that takes a statement back: every amount with the other sign.
///
/// # Errors
///
/// A number that is too long for the wire.
pub fn reversal(statement: &StatementView, reason: String) -> Result<StatementView, TooLong> {
    let minus =
        |amount: &wharf_shared::decimal::Decimal| Amount::zero().minus(&Amount::from(amount)).to_decimal();
    let lines = statement.lines.iter().map(|line| {
        Ok(StatementLine {
            quantity: line.quantity.as_ref().map(minus).transpose()?,
            exact_amount: minus(&line.exact_amount)?,
            amount: minus(&line.amount)?,
            ..line.clone()
        })
    });
    Ok(StatementView {
        kind: StatementKind::CreditNote,
        lines: lines.collect::<Result<_, TooLong>>()?,
        net: minus(&statement.net)?,
        tax: minus(&statement.tax)?,
        total: minus(&statement.total)?,
        adjustment: minus(&statement.adjustment)?,
        refers_to: Some(statement.id.clone()),
        void_reason: Some(reason),
        override_reason: None,
        due_at: None,
        paid_at: None,
        content_hash: None,
        late: Vec::new(),
        ended_hosts: Vec::new(),
        ..statement.clone()
    })
}

fn is_unattributed(charge: &UsageCharge) -> bool {
    charge.usage.container.is_none() && charge.tier != Tier::Minimum
}

fn is_same(key: &LineKey, charge: &UsageCharge, tax_class: &str) -> bool {
    std::ptr::eq(key.sku, charge.sku)
        && key.tier == charge.tier
        && key.unit == charge.unit
        && key.policy == charge.policy
        && key.relief == charge.relief
        && key.is_unattributed == is_unattributed(charge)
        && key.is_measurable == (charge.usage.quality != Quality::NotMeasurable)
        && key.tax_class == tax_class
        && key.unit_price == charge.contracted_unit_price
        && key.list_unit_price == charge.list_unit_price
}

type Order<'a> = (bool, bool, &'a str, &'a str, Tier, Option<Relief>, &'a Amount, &'a Amount, &'a str);

fn order(key: &LineKey) -> Order<'_> {
    let (sku, unit) = (key.sku, key.unit.as_str());
    let (list, own) = (&key.list_unit_price, &key.unit_price);
    (!key.is_measurable, key.is_unattributed, sku, unit, key.tier, key.relief, list, own, &key.tax_class)
}

/// Adds a row's bytes to the evidence; `bytes` is where they are put together, one for all rows.
fn digest(evidence: &mut Sha256, bytes: &mut Vec<u8>, row: &RatedRow, charge: &UsageCharge) {
    let usage = &charge.usage;
    bytes.clear();
    bytes.extend(usage.hour.0.to_be_bytes());
    bytes.extend(usage.quantity.to_be_bytes());
    // No id and no word holds a newline, so the parts cannot run into each other.
    for part in [
        usage.container.as_ref().map_or("", |container| container.as_str()),
        usage.meter.as_str(),
        usage.quality.as_str(),
        charge.sku,
        row.price_book.as_ref().map_or("", |id| id.as_str()),
        row.contract.as_ref().map_or("", |id| id.as_str()),
        charge.policy,
        charge.relief.map_or("", Relief::as_str),
    ] {
        bytes.extend(part.as_bytes());
        bytes.push(b'\n');
    }
    for number in [&charge.quantity, &charge.list_unit_price, &charge.contracted_unit_price] {
        // Writing to bytes does not fail.
        let _written = writeln!(bytes, "{number}");
    }
    match charge.tier {
        Tier::Standard => bytes.push(0),
        Tier::Number(number) => {
            bytes.push(1);
            bytes.extend(number.to_be_bytes());
        }
        Tier::Minimum => bytes.push(2),
    }
    evidence.update(bytes);
}

fn usage_line(sum: &Sum, exact: &Amount, amount: &Amount) -> Result<StatementLine, TooLong> {
    let key = &sum.key;
    let mut description = sum.title.to_owned();
    if key.is_unattributed {
        description.push_str(" outside containers");
    }
    match key.policy {
        "max" => description.push_str(", the greater of used and reserved"),
        "blend" => description.push_str(", used and reserved in parts"),
        _ => {}
    }
    match key.tier {
        Tier::Standard => {}
        Tier::Number(0) => description.push_str(", allowance"),
        Tier::Number(number) => {
            description.push_str(", tier ");
            description.push_str(&number.to_string());
        }
        Tier::Minimum => description.push_str(", up to the minimum"),
    }
    description.push_str(match key.relief {
        None => "",
        Some(Relief::FreeQuantity) => ", free by contract",
        Some(Relief::Cap) => ", beyond the cap of a container",
    });
    if !key.is_measurable {
        description.push_str(" (not measurable here)");
    }
    Ok(StatementLine {
        line: 0,
        category: LineCategory::Usage,
        description,
        sku: Some(key.sku.to_owned()),
        tier: Some(key.tier.to_string()),
        policy: Some(key.policy.to_owned()),
        relief: key.relief.map(|relief| relief.as_str().to_owned()),
        is_unattributed: key.is_unattributed,
        quantity: Some(sum.quantity.to_decimal()?),
        unit: Some(key.unit.as_str().to_owned()),
        list_unit_price: Some(key.list_unit_price.to_decimal()?),
        unit_price: Some(key.unit_price.to_decimal()?),
        tax_class: Some(key.tax_class.clone()),
        exact_amount: exact.to_decimal()?,
        amount: amount.to_decimal()?,
        quality: sum.quality,
        partial_rows: sum.partial_rows,
        rows: sum.rows,
    })
}

fn other_line(
    category: LineCategory,
    description: String,
    tax_class: Option<&String>,
    exact: &Amount,
    amount: &Amount,
) -> Result<StatementLine, TooLong> {
    Ok(StatementLine {
        line: 0,
        category,
        description,
        sku: None,
        tier: None,
        policy: None,
        relief: None,
        is_unattributed: false,
        quantity: None,
        unit: None,
        list_unit_price: None,
        unit_price: None,
        tax_class: tax_class.cloned(),
        exact_amount: exact.to_decimal()?,
        amount: amount.to_decimal()?,
        quality: Quality::Measured,
        partial_rows: 0,
        rows: 1,
    })
}

/// Takes a credit from what each tax class has, in order.
fn take(bases: &mut [(String, Amount)], credit: &Amount) {
    let mut left = credit.clone();
    for (_, base) in bases {
        let part = if left < *base { left.clone() } else { base.clone() };
        *base = base.minus(&part);
        left = left.minus(&part);
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
