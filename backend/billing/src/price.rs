//! Price books: which price is in force in an hour, and how a meter's quantity becomes a SKU's.

use std::collections::BTreeMap;

use wharf_shared::billing::{
    Policy, PriceBookSpec, PriceBookView, PriceSpec, PricingUnit, Rounding, TierSpec, Tiering,
};
use wharf_shared::decimal::Decimal;
use wharf_shared::id::PriceBookId;
use wharf_shared::problem::FieldProblem;
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;

use crate::amount::Amount;
use crate::currency;
use crate::rating::conversion;

/// Digits of a price or a quantity after the point.
pub const PRICE_FRACTION_DIGITS: u64 = 18;
/// Digits of a price or a quantity before the point.
pub const PRICE_WHOLE_DIGITS: usize = 12;
/// Tiers of one price.
pub const TIERS_MAX: usize = 50;
/// ISO 4217's code where no currency is meant: that of amounts before any price book exists.
pub const NO_CURRENCY: &str = "XXX";
/// The tax class of a price that names none.
pub const STANDARD_TAX_CLASS: &str = "standard";

/// A resource that is both used and reserved: its name as a SKU, and its meters.
const PAIRS: [(&str, Meter, Meter); 2] =
    [("cpu", Meter::CpuUsed, Meter::CpuReserved), ("memory", Meter::MemoryUsed, Meter::MemoryReserved)];

/// The pair that a meter belongs to.
fn pair(meter: Meter) -> Option<(&'static str, Meter, Meter)> {
    PAIRS.into_iter().find(|(_, used, reserved)| meter == *used || meter == *reserved)
}

/// Whether there is, or may be, a SKU of this id: a meter, or a resource with a used and a reserved one.
pub fn is_sku(id: &str) -> bool {
    Meter::from_name(id).is_some() || PAIRS.iter().any(|(name, ..)| *name == id)
}

/// Which price of a SKU: the end of a `SkuPriceId`. It never says an amount, a date or a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The only one.
    Standard,
    /// By quantity; 0 is the allowance.
    Number(u16),
    /// What is missing to the minimum of a period.
    Minimum,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standard => f.write_str("standard"),
            Self::Number(number) => write!(f, "t{number}"),
            Self::Minimum => f.write_str("minimum"),
        }
    }
}

/// A stretch of a tenant's quantity in a period, up to the next one's begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) from: Amount,
    pub(crate) tier: Tier,
    pub(crate) unit_price: Amount,
}

/// What one functional good costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sku {
    /// A meter's name, or that of a resource whose two meters are charged together.
    pub id: &'static str,
    /// What its prices are for.
    pub unit: PricingUnit,
    /// Which meters are charged.
    pub policy: Policy,
    /// How its tiers apply.
    pub tiering: Tiering,
    /// Units that a tenant which used any is charged for at least in a period.
    pub minimum_quantity: Option<Amount>,
    /// What one container costs at most in a period.
    pub monthly_cap: Option<Amount>,
    /// The contract's tax class.
    pub tax_class: String,
    /// Ascending, the first from 0; never empty.
    steps: Vec<Step>,
    /// Factors of the used and the reserved meter; 1 but for a blend.
    factors: (Amount, Amount),
}

impl Sku {
    fn new(price: &PriceSpec) -> Self {
        let own = (price.meter.as_str(), price.meter, price.meter);
        let (resource, used, _) = pair(price.meter).unwrap_or(own);
        let policy =
            price.policy.clone().unwrap_or(if price.meter == used { Policy::Used } else { Policy::Reserved });
        let (id, factors) = match &policy {
            Policy::Used | Policy::Reserved => (price.meter.as_str(), (Amount::one(), Amount::one())),
            Policy::Max => (resource, (Amount::one(), Amount::one())),
            Policy::Blend { used, reserved } => (resource, (Amount::from(used), Amount::from(reserved))),
        };
        let amount = |value: &Option<Decimal>| value.as_ref().map(Amount::from);
        Self {
            id,
            unit: price.pricing_unit(),
            policy,
            tiering: price.tiering,
            minimum_quantity: amount(&price.minimum_quantity),
            monthly_cap: amount(&price.monthly_cap),
            tax_class: price.tax_class.clone().unwrap_or_else(|| STANDARD_TAX_CLASS.to_owned()),
            steps: steps(price),
            factors,
        }
    }

    /// What part of a meter's quantity is charged; `None` where the policy does not look at it.
    pub(crate) fn factor(&self, meter: Meter) -> Option<&Amount> {
        let is_reserved = pair(meter).is_some_and(|(_, _, reserved)| reserved == meter);
        match (&self.policy, is_reserved) {
            (Policy::Used | Policy::Max | Policy::Blend { .. }, false) => Some(&self.factors.0),
            (Policy::Reserved | Policy::Max | Policy::Blend { .. }, true) => Some(&self.factors.1),
            (Policy::Used, true) | (Policy::Reserved, false) => None,
        }
    }

    /// The step of the unit that follows after `position` of them, and where the next step begins.
    pub(crate) fn step_after(&self, position: &Amount) -> (&Step, Option<&Amount>) {
        let next = self.steps.partition_point(|step| step.from <= *position);
        self.step(next)
    }

    /// The step of the last one of `total` units.
    pub(crate) fn step_of_last(&self, total: &Amount) -> &Step {
        self.step(self.steps.partition_point(|step| step.from < *total).max(1)).0
    }

    /// The step before `next`. There is always one: the first begins at 0.
    fn step(&self, next: usize) -> (&Step, Option<&Amount>) {
        static FREE: std::sync::LazyLock<Step> = std::sync::LazyLock::new(|| Step {
            from: Amount::zero(),
            tier: Tier::Standard,
            unit_price: Amount::zero(),
        });
        let step = next.checked_sub(1).and_then(|at| self.steps.get(at)).unwrap_or(&FREE);
        (step, self.steps.get(next).map(|step| &step.from))
    }

    /// The price of each tier, by the book.
    pub(crate) fn prices(&self) -> impl Iterator<Item = &Amount> {
        self.steps.iter().map(|step| &step.unit_price)
    }

    /// The price of a unit, for showing what it will cost: that of the first that is not free.
    pub fn first_price(&self) -> Amount {
        let price = self.steps.iter().map(|step| &step.unit_price).find(|price| !price.is_zero());
        price.cloned().unwrap_or_else(Amount::zero)
    }
}

fn steps(price: &PriceSpec) -> Vec<Step> {
    let allowance = price.allowance.as_ref().map(Amount::from);
    let free = allowance.iter().map(|_| Step {
        from: Amount::zero(),
        tier: Tier::Number(0),
        unit_price: Amount::zero(),
    });
    let begin = allowance.clone().unwrap_or_else(Amount::zero);
    let priced: Vec<Step> = if price.tiers.is_empty() {
        let unit_price = price.unit_price.as_ref().map_or_else(Amount::zero, Amount::from);
        let tier = if allowance.is_some() { Tier::Number(1) } else { Tier::Standard };
        vec![Step { from: begin, tier, unit_price }]
    } else {
        let numbered = (1_u16..).zip(&price.tiers);
        let step = |(number, tier): (u16, &TierSpec)| Step {
            from: Amount::from(&tier.from),
            tier: Tier::Number(number),
            unit_price: Amount::from(&tier.unit_price),
        };
        numbered.map(step).collect()
    };
    free.chain(priced).collect()
}

/// A version of the price book, ready for rating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceBook {
    /// Id.
    pub id: PriceBookId,
    /// First hour for which it holds.
    pub effective_from: Timestamp,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether a tenant's use outside its containers is charged.
    pub price_unattributed: bool,
    /// How the lines of a statement are rounded.
    pub rounding: Rounding,
    skus: Vec<Sku>,
}

impl PriceBook {
    /// The SKU that a meter is charged by; nothing is charged for a meter without one.
    pub fn sku(&self, meter: Meter) -> Option<&Sku> {
        let joint = pair(meter).map(|(resource, ..)| resource);
        self.skus
            .iter()
            .find(|sku| sku.factor(meter).is_some() && (sku.id == meter.as_str() || Some(sku.id) == joint))
    }

    /// Every SKU.
    pub fn skus(&self) -> &[Sku] {
        &self.skus
    }
}

/// All versions. Each holds from its hour until the next one's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceBooks(BTreeMap<Timestamp, PriceBook>);

/// A price book cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("price book {id}, {}: {}", problem.field, problem.detail)]
pub struct PriceBookError {
    /// Which.
    pub id: PriceBookId,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

impl PriceBooks {
    /// Takes all versions, in any order.
    ///
    /// # Errors
    ///
    /// The first version that [`problems`] finds fault with, or that begins when another does.
    pub fn new(views: &[PriceBookView]) -> Result<Self, PriceBookError> {
        let mut books: BTreeMap<Timestamp, PriceBook> = BTreeMap::new();
        for PriceBookView { id, book: spec, .. } in views {
            let other = books.values().next().map(|other| other.currency.as_str());
            let mut found = problems(spec, other);
            if books.contains_key(&spec.effective_from) {
                found.push(problem("effective_from", "another version begins at this hour".to_owned()));
            }
            if let Some(problem) = found.into_iter().next() {
                return Err(PriceBookError { id: id.clone(), problem });
            }
            let book = PriceBook {
                id: id.clone(),
                effective_from: spec.effective_from,
                currency: spec.currency.clone(),
                price_unattributed: spec.price_unattributed,
                rounding: spec.rounding,
                skus: spec.prices.iter().map(Sku::new).collect(),
            };
            books.insert(spec.effective_from, book);
        }
        Ok(Self(books))
    }

    /// The version in force at this hour, if there was one yet.
    pub fn at(&self, hour: Timestamp) -> Option<&PriceBook> {
        self.0.range(..=hour).next_back().map(|(_, book)| book)
    }

    /// The currency of every version.
    pub fn currency(&self) -> &str {
        self.0.values().next().map_or(NO_CURRENCY, |book| &book.currency)
    }

    /// Whether what an hour costs depends on the hours before it in its period.
    pub fn has_memory(&self) -> bool {
        let mut skus = self.0.values().flat_map(|book| &book.skus);
        skus.any(|sku| {
            // What is cut off is carried into the next hour.
            let is_cut = conversion(sku.unit).1 != 1;
            is_cut || sku.steps.len() > 1 || sku.monthly_cap.is_some() || sku.minimum_quantity.is_some()
        })
    }

    /// Whether a price depends on what is used later in the period: then [`crate::rating::Rater::scan`]
    /// sees the whole period before it is rated.
    pub fn has_volume_tiers(&self) -> bool {
        let mut skus = self.0.values().flat_map(|book| &book.skus);
        skus.any(|sku| sku.tiering == Tiering::Volume && sku.steps.len() > 1)
    }
}

/// Checks what can be checked without the other versions but their currency, and says all that is
/// wrong. Whoever accepts a new version also refuses one that begins before the present hour.
pub fn problems(spec: &PriceBookSpec, currency: Option<&str>) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    if !currency::is_active(&spec.currency) {
        let detail = format!("{:?} is no code of a currency in ISO 4217, such as EUR", spec.currency);
        found.push(problem("currency", detail));
    } else if currency.is_some_and(|other| other != spec.currency) {
        found.push(problem("currency", "every version of the price book has the same currency".to_owned()));
    }
    if spec.effective_from != spec.effective_from.hour_start() {
        found.push(problem("effective_from", "a full hour of UTC is needed".to_owned()));
    }
    for (at, price) in spec.prices.iter().enumerate() {
        let before = spec.prices.get(..at).unwrap_or_default();
        price_problems(price, before, &format!("prices[{at}]"), &mut found);
    }
    found
}

fn price_problems(price: &PriceSpec, before: &[PriceSpec], at: &str, found: &mut Vec<FieldProblem>) {
    let numbers = [
        ("unit_price", &price.unit_price),
        ("allowance", &price.allowance),
        ("minimum_quantity", &price.minimum_quantity),
        ("monthly_cap", &price.monthly_cap),
    ];
    for (name, number) in numbers {
        number_problems(number.as_ref(), &format!("{at}.{name}"), found);
    }
    if !PricingUnit::of(price.meter).contains(&price.pricing_unit()) {
        let known: Vec<_> = PricingUnit::of(price.meter).iter().map(|unit| unit.as_str()).collect();
        let detail = format!("{} is priced per {}", price.meter.as_str(), known.join(", "));
        found.push(problem(&format!("{at}.unit"), detail));
    }
    policy_problems(price, at, found);
    let charged = charged(price);
    if before.iter().any(|other| self::charged(other).iter().any(|meter| charged.contains(meter))) {
        found.push(problem(&format!("{at}.meter"), "the meter has two prices".to_owned()));
    }
    if price.tax_class.as_ref().is_some_and(|class| !is_word(class)) {
        let detail = "1 to 40 letters, digits, spaces and ._-, a letter or digit first".to_owned();
        found.push(problem(&format!("{at}.tax_class"), detail));
    }
    tier_problems(price, at, found);
    // What is missing to a minimum has one price, or nobody could say what it costs.
    if price.minimum_quantity.is_some() && (price.allowance.is_some() || !price.tiers.is_empty()) {
        let detail = "goes with one unit_price, not with an allowance or tiers".to_owned();
        found.push(problem(&format!("{at}.minimum_quantity"), detail));
    }
}

/// The meters that a price charges.
fn charged(price: &PriceSpec) -> Vec<Meter> {
    match (&price.policy, pair(price.meter)) {
        (Some(Policy::Max | Policy::Blend { .. }), Some((_, used, reserved))) => vec![used, reserved],
        _ => vec![price.meter],
    }
}

fn policy_problems(price: &PriceSpec, at: &str, found: &mut Vec<FieldProblem>) {
    let Some(policy) = &price.policy else { return };
    let field = format!("{at}.policy");
    let meter = price.meter.as_str();
    let refused = match (policy, pair(price.meter)) {
        (Policy::Used, None) => None,
        (_, None) => Some(format!("{meter} is never reserved; its policy is \"used\"")),
        (Policy::Used, Some((_, used, _))) if price.meter != used => Some(used.as_str().to_owned()),
        (Policy::Reserved, Some((_, _, reserved))) if price.meter != reserved => {
            Some(reserved.as_str().to_owned())
        }
        (_, Some(_)) => None,
    };
    if let Some(wanted) = refused {
        let detail = match Meter::from_name(&wanted) {
            Some(_) => {
                format!("the policy \"{}\" is that of the meter {wanted}, not {meter}", policy.as_str())
            }
            None => wanted,
        };
        found.push(problem(&field, detail));
    }
    if let Policy::Blend { used, reserved } = policy {
        number_problems(Some(used), &format!("{field}.blend.used"), found);
        number_problems(Some(reserved), &format!("{field}.blend.reserved"), found);
    }
}

fn tier_problems(price: &PriceSpec, at: &str, found: &mut Vec<FieldProblem>) {
    match (&price.unit_price, price.tiers.as_slice()) {
        (None, []) => found.push(problem(&format!("{at}.unit_price"), "give a price or tiers".to_owned())),
        (Some(_), [_, ..]) => {
            let detail = "the tiers have the prices; give one or the other".to_owned();
            found.push(problem(&format!("{at}.unit_price"), detail));
        }
        _ => {}
    }
    if price.tiers.len() > TIERS_MAX {
        found.push(problem(&format!("{at}.tiers"), format!("at most {TIERS_MAX} tiers")));
    }
    let mut end = Some(price.allowance.as_ref().map_or_else(Amount::zero, Amount::from));
    for (number, tier) in price.tiers.iter().enumerate() {
        let field = |name: &str| format!("{at}.tiers[{number}].{name}");
        number_problems(Some(&tier.from), &field("from"), found);
        number_problems(tier.to.as_ref(), &field("to"), found);
        number_problems(Some(&tier.unit_price), &field("unit_price"), found);
        let from = Amount::from(&tier.from);
        let wrong = match &end {
            None => Some("the tier before has no end".to_owned()),
            Some(end) if from < *end => Some(format!("overlaps what ends at {end}")),
            Some(end) if from > *end => Some(format!("leaves a gap from {end} on")),
            Some(_) => None,
        };
        found.extend(wrong.map(|detail| problem(&field("from"), detail)));
        end = tier.to.as_ref().map(Amount::from);
        if end.as_ref().is_some_and(|end| *end <= from) {
            found.push(problem(&field("to"), "a tier ends after it begins".to_owned()));
        }
    }
    if let (Some(end), Some(last)) = (end, price.tiers.len().checked_sub(1)) {
        let detail = format!("what is used beyond {end} has no price; leave the last tier's end out");
        found.push(problem(&format!("{at}.tiers[{last}].to"), detail));
    }
}

/// Checks a number that may be left out: not negative, and of no more digits than prices have.
pub(crate) fn number_problems(number: Option<&Decimal>, field: &str, found: &mut Vec<FieldProblem>) {
    let Some(amount) = number.map(Amount::from) else { return };
    if amount.is_negative() {
        found.push(problem(field, "may not be negative".to_owned()));
    }
    let text = amount.to_string();
    let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-');
    if amount.fraction_digits() > PRICE_FRACTION_DIGITS || whole.len() > PRICE_WHOLE_DIGITS {
        let detail =
            format!("at most {PRICE_WHOLE_DIGITS} digits before and {PRICE_FRACTION_DIGITS} after the point");
        found.push(problem(field, detail));
    }
}

/// Whether a text is a name that can stand in a statement, a file or a spreadsheet as it is.
pub(crate) fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'.' | b'_' | b'-');
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !text.ends_with(' ')
        && text.bytes().all(plain)
}

pub(crate) fn problem(field: &str, detail: String) -> FieldProblem {
    FieldProblem { field: field.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use wharf_shared::time::HOUR_US;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    fn book(number: u32, hour: i64, currency: &str, prices: &[(Meter, &str)]) -> PriceBookView {
        let prices = prices.iter().map(|(meter, price)| PriceSpec::flat(*meter, decimal(price)));
        PriceBookView {
            id: format!("prb_00000000-0000-7000-8000-{number:012}").parse().expect("an id"),
            book: PriceBookSpec {
                currency: currency.to_owned(),
                effective_from: Timestamp(hour * HOUR_US),
                prices: prices.collect(),
                price_unattributed: false,
                rounding: Rounding::HalfEven,
            },
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn a_version_holds_from_its_hour_until_the_next_ones() {
        let books =
            [book(2, 20, "EUR", &[(Meter::CpuUsed, "2")]), book(1, 10, "EUR", &[(Meter::CpuUsed, "1")])];
        let books = PriceBooks::new(&books).expect("well-formed");
        let price = |hour: i64| {
            let sku = books.at(Timestamp(hour * HOUR_US)).and_then(|book| book.sku(Meter::CpuUsed));
            sku.map(|sku| sku.first_price().to_string())
        };
        assert_eq!(price(9), None);
        assert_eq!(price(10).as_deref(), Some("1"));
        assert_eq!(price(19).as_deref(), Some("1"));
        assert_eq!(price(20).as_deref(), Some("2"));
        let free = books.at(Timestamp(10 * HOUR_US)).expect("in force");
        assert!(free.sku(Meter::NetworkInternetIn).is_none() && free.sku(Meter::CpuReserved).is_none());
        assert_eq!((books.currency(), PriceBooks::default().currency()), ("EUR", NO_CURRENCY));
    }

    #[test]
    fn says_what_is_wrong_with_a_price_book() {
        let good = book(1, 1, "EUR", &[(Meter::CpuUsed, "0.000000000000000001")]);
        for (bad, field) in [
            (book(2, 2, "eur", &[]), "currency"),
            (book(2, 2, "EUX", &[]), "currency"),
            (book(2, 2, "USD", &[]), "currency"),
            (book(2, 1, "EUR", &[]), "effective_from"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "-1")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "0.0000000000000000001")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "1000000000000")]), "prices[0].unit_price"),
            (book(2, 2, "EUR", &[(Meter::CpuUsed, "1"), (Meter::CpuUsed, "1")]), "prices[1].meter"),
        ] {
            let error = PriceBooks::new(&[good.clone(), bad]).expect_err(field);
            assert_eq!(error.problem.field, field);
        }
        let mut half_past = good;
        half_past.book.effective_from = Timestamp(HOUR_US / 2);
        assert_eq!(problems(&half_past.book, None).len(), 1);
    }

    /// The fields that are found fault with in a book of this one price.
    fn fields(price: &serde_json::Value) -> Vec<String> {
        let price: PriceSpec = serde_json::from_value(price.clone()).expect("a price");
        let cpu = PriceSpec::flat(Meter::CpuReserved, decimal("1"));
        let mut view = book(1, 1, "EUR", &[]);
        view.book.prices = vec![cpu, price];
        problems(&view.book, None).into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn tiers_follow_each_other_from_the_allowance_to_no_end() {
        use serde_json::json;
        let tier = |from: &str, to: Option<&str>| json!({ "from": from, "to": to, "unit_price": "1" });
        for (allowance, tiers, wrong) in [
            (None, vec![tier("0", None)], vec![]),
            (Some("5"), vec![tier("5", Some("10")), tier("10", None)], vec![]),
            (Some("5"), vec![tier("0", None)], vec!["prices[1].tiers[0].from"]),
            (None, vec![tier("1", None)], vec!["prices[1].tiers[0].from"]),
            (None, vec![tier("0", Some("10")), tier("11", None)], vec!["prices[1].tiers[1].from"]),
            (None, vec![tier("0", Some("10")), tier("9", None)], vec!["prices[1].tiers[1].from"]),
            (None, vec![tier("0", None), tier("9", None)], vec!["prices[1].tiers[1].from"]),
            (None, vec![tier("0", Some("10"))], vec!["prices[1].tiers[0].to"]),
            (None, vec![tier("0", Some("0")), tier("0", None)], vec!["prices[1].tiers[0].to"]),
        ] {
            let price = json!({ "meter": "network_internet_out", "allowance": allowance, "tiers": tiers });
            assert_eq!(fields(&price), wrong, "{price}");
        }
    }

    #[test]
    fn a_price_that_contradicts_itself_or_another_is_refused() {
        use serde_json::json;
        for (price, wrong) in [
            (json!({ "meter": "network_internet_out" }), "prices[1].unit_price"),
            (
                json!({ "meter": "starts", "unit_price": "1", "allowance": "10", "minimum_quantity": "20" }),
                "prices[1].minimum_quantity",
            ),
            (
                json!({ "meter": "network_internet_out", "unit_price": "1", "unit": "Core-Hours" }),
                "prices[1].unit",
            ),
            (
                json!({ "meter": "network_internet_out", "unit_price": "1", "policy": "max" }),
                "prices[1].policy",
            ),
            (json!({ "meter": "memory_used", "unit_price": "1", "policy": "reserved" }), "prices[1].policy"),
            (json!({ "meter": "cpu_used", "unit_price": "1", "policy": "max" }), "prices[1].meter"),
            (
                json!({ "meter": "memory_used", "unit_price": "1",
                    "policy": { "blend": { "used": "-1", "reserved": "1" } } }),
                "prices[1].policy.blend.used",
            ),
            (
                json!({ "meter": "memory_used", "unit_price": "1", "tax_class": "=1+1" }),
                "prices[1].tax_class",
            ),
            (
                json!({ "meter": "memory_used", "unit_price": "1",
                    "tiers": [{ "from": "0", "unit_price": "1" }] }),
                "prices[1].unit_price",
            ),
            (
                json!({ "meter": "memory_used", "unit_price": "1", "monthly_cap": "-1" }),
                "prices[1].monthly_cap",
            ),
        ] {
            assert_eq!(fields(&price), [wrong], "{price}");
        }
        assert!(fields(&json!({ "meter": "memory_used", "unit_price": "1", "policy": "max" })).is_empty());
    }
}
