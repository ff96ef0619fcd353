//! Usage × the price in force = cost, exact and explained.
//!
//! A tenant's hours of a period (a calendar month of UTC) are rated in their order, because what an hour
//! costs depends on what was used before it: allowances, tiers, the contract's free quantities, caps. A
//! quantity that crosses a border is split, so that a row has one price and its cost is unit price ×
//! quantity to the last digit; nothing is rounded. Where a unit does not end in decimal, the quantity is
//! cut after twelve digits and the rest goes to the SKU's next row ([`crate::rounding`]); what is left of
//! it when the period ends, less than 10⁻¹² units, is not charged.
//!
//! The order: allowance → tiers → contract's free quantity → discount → cap; credits, tax and rounding
//! are the [statement](crate::statement)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_shared::billing::{Policy, PricingUnit, Tiering};
use wharf_shared::id::{ContainerId, ContractId, PriceBookId, TenantId};
use wharf_shared::time::{HOUR_US, Timestamp};
use wharf_shared::usage::{Meter, UsageHour, UsageRow};

use crate::amount::{Amount, TooLong};
use crate::contract::{Contract, Contracts};
use crate::price::{PriceBook, PriceBooks, Sku, Tier};
use crate::rounding;
use crate::window;

/// Begin and end of the period that a moment lies in: its calendar month in UTC.
pub fn period(moment: Timestamp) -> (Timestamp, Timestamp) {
    let (year, month, _) = moment.date();
    let (next_year, next_month) =
        if month < 12 { (year, month.saturating_add(1)) } else { (year.saturating_add(1), 1) };
    let first = |year, month| Timestamp::from_date(year, month, 1).unwrap_or(moment);
    (first(year, month), first(next_year, next_month))
}

/// The period of a month that is written like `2026-01`.
pub fn period_of(month: &str) -> Option<(Timestamp, Timestamp)> {
    let (year, number) = month.split_once('-')?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || number.len() != 2 || !is_plain(year) || !is_plain(number) {
        return None;
    }
    Timestamp::from_date(year.parse().ok()?, number.parse().ok()?, 1).map(period)
}

/// What is charged: FOCUS's `ChargeCategory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChargeCategory {
    /// Something that was used.
    Usage,
    /// Money that the tenant had to its credit.
    Credit,
    /// Tax.
    Tax,
    /// What rounding a statement's lines added or took away.
    Adjustment,
}

impl ChargeCategory {
    /// The word for it, as in FOCUS.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "Usage",
            Self::Credit => "Credit",
            Self::Tax => "Tax",
            Self::Adjustment => "Adjustment",
        }
    }
}

/// Why a unit with a price costs this tenant nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relief {
    /// The contract's free quantity.
    FreeQuantity,
    /// The container has reached its cap.
    Cap,
}

impl Relief {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FreeQuantity => "free_quantity",
            Self::Cap => "cap",
        }
    }
}

/// A charge for one meter of one container in one hour, or for a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageCharge {
    /// What was used. The quantities of the parts that an hour was split into add up to the hour's.
    pub usage: UsageHour,
    /// Id of the SKU: the meter, or the resource whose two meters are charged together.
    pub sku: &'static str,
    /// Which price of the SKU.
    pub tier: Tier,
    /// `used`, `reserved`, `max` or `blend`; `none` if no price is for this meter in this hour.
    pub policy: &'static str,
    /// The unit that is priced.
    pub unit: PricingUnit,
    /// How many of them.
    pub quantity: Amount,
    /// What one costs by the book.
    pub list_unit_price: Amount,
    /// What one costs this tenant.
    pub contracted_unit_price: Amount,
    /// Why it costs nothing although the book has a price.
    pub relief: Option<Relief>,
}

/// What is charged, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// Quantity × price.
    Usage(Box<UsageCharge>),
    /// A credit that was used; below zero.
    Credit {
        /// The credit's name.
        name: String,
        /// How much of it.
        amount: Amount,
    },
    /// Tax.
    Tax {
        /// The tax class.
        class: String,
        /// Percent.
        rate_percent: Amount,
        /// How much.
        amount: Amount,
    },
    /// The sum of a statement's rounded lines less that of its exact rows.
    Adjustment {
        /// How much.
        amount: Amount,
    },
}

/// One charge with all that it follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatedRow {
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name at that time. Shared, as the currency: a month has millions of rows.
    pub tenant_name: Arc<str>,
    /// Begin of what is charged: an hour, or the whole period of what is no usage.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// ISO 4217 code.
    pub currency: Arc<str>,
    /// The version of the price book, if one was in force.
    pub price_book: Option<PriceBookId>,
    /// The contract, if there was one.
    pub contract: Option<ContractId>,
    /// What is charged.
    pub charge: Charge,
}

impl RatedRow {
    /// FOCUS's category.
    pub const fn category(&self) -> ChargeCategory {
        match self.charge {
            Charge::Usage(_) => ChargeCategory::Usage,
            Charge::Credit { .. } => ChargeCategory::Credit,
            Charge::Tax { .. } => ChargeCategory::Tax,
            Charge::Adjustment { .. } => ChargeCategory::Adjustment,
        }
    }

    /// The usage, if it is one.
    pub fn usage(&self) -> Option<&UsageCharge> {
        match &self.charge {
            Charge::Usage(usage) => Some(usage),
            _ => None,
        }
    }

    /// What it costs by the price book: list unit price × quantity.
    pub fn list_cost(&self) -> Amount {
        self.cost(|usage| &usage.list_unit_price)
    }

    /// What it costs this tenant: contracted unit price × quantity. That is what is billed, and there are
    /// no prepaid commitments that would make the effective cost another.
    pub fn billed_cost(&self) -> Amount {
        self.cost(|usage| &usage.contracted_unit_price)
    }

    fn cost(&self, price: impl Fn(&UsageCharge) -> &Amount) -> Amount {
        match &self.charge {
            Charge::Usage(usage) => usage.quantity.times(price(usage)),
            Charge::Credit { amount, .. } | Charge::Tax { amount, .. } | Charge::Adjustment { amount } => {
                amount.clone()
            }
        }
    }
}

/// Rows of usage as they are sent: the parts of an hour together again.
///
/// # Errors
///
/// A number that is too long for the wire.
pub fn to_wire(rows: &[RatedRow]) -> Result<Vec<UsageRow>, TooLong> {
    let charges = rows.iter().filter_map(|row| row.usage().map(|usage| (row, usage))).collect::<Vec<_>>();
    let same = |a: &UsageHour, b: &UsageHour| {
        (a.hour, &a.tenant, &a.container, a.meter) == (b.hour, &b.tenant, &b.container, b.meter)
    };
    let parts = charges.chunk_by(|(_, a), (_, b)| same(&a.usage, &b.usage) && b.tier != Tier::Minimum);
    let wire = parts.filter_map(|parts| parts.first().map(|(row, charge)| (parts, *row, &charge.usage)));
    wire.map(|(parts, row, usage)| {
        let quantity = parts.iter().fold(0_u128, |sum, (_, part)| sum.saturating_add(part.usage.quantity));
        Ok(UsageRow {
            tenant: usage.tenant.clone(),
            tenant_name: usage.tenant_name.clone(),
            container: usage.container.clone(),
            container_name: usage.container_name.clone(),
            hour: usage.hour,
            meter: usage.meter,
            quantity: Amount::from_units(quantity, 0).to_decimal()?,
            unit: usage.meter.unit().to_owned(),
            quality: usage.quality,
            amount: parts.iter().map(|(row, _)| row.billed_cost()).sum::<Amount>().to_decimal()?,
            currency: row.currency.to_string(),
        })
    })
    .collect()
}

/// What a SKU's tiers and carry depend on: another unit in the middle of a period begins anew.
type SkuKey = (&'static str, PricingUnit);

/// What a tenant has used of a SKU since the period's begin.
#[derive(Debug, Clone)]
struct SkuState {
    /// Units so far: where the next one falls in the tiers.
    position: Amount,
    /// Units that the contract's free quantity has paid for.
    free_used: Amount,
    /// What was cut off the quantity of the row before, times the unit's divisor.
    carry: Amount,
    /// What each container has cost, if there is a cap.
    spent: BTreeMap<Option<ContainerId>, Amount>,
}

impl Default for SkuState {
    fn default() -> Self {
        let [position, free_used, carry] = [Amount::zero(), Amount::zero(), Amount::zero()];
        Self { position, free_used, carry, spent: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, Default)]
struct TenantState {
    skus: BTreeMap<SkuKey, SkuState>,
    /// The last row that had a SKU with a minimum.
    with_minimum: BTreeMap<SkuKey, UsageHour>,
}

/// What a rater knows of the hours that it has rated: another goes on from there.
#[derive(Debug, Clone, Default)]
pub struct RaterState {
    period: Option<Timestamp>,
    tenants: BTreeMap<TenantId, TenantState>,
}

/// Rates hours in the order of hour and tenant. The same hours, books and contracts give the same rows.
#[derive(Debug, Clone)]
pub struct Rater<'a> {
    books: &'a PriceBooks,
    contracts: &'a Contracts,
    /// That of every row.
    currency: Arc<str>,
    /// Begin of the period that the states are of.
    period: Option<Timestamp>,
    tenants: BTreeMap<TenantId, TenantState>,
    scanned: BTreeMap<(Timestamp, TenantId, SkuKey), SkuState>,
}

impl<'a> Rater<'a> {
    /// Begins with nothing used.
    pub fn new(books: &'a PriceBooks, contracts: &'a Contracts) -> Self {
        Self {
            books,
            contracts,
            currency: books.currency().into(),
            period: None,
            tenants: BTreeMap::new(),
            scanned: BTreeMap::new(),
        }
    }

    /// Goes on where a rater with the same books and contracts was. Nothing is known of what that one scanned.
    pub fn resume(books: &'a PriceBooks, contracts: &'a Contracts, state: RaterState) -> Self {
        let RaterState { period, tenants } = state;
        Self { period, tenants, ..Self::new(books, contracts) }
    }

    /// Where it is now.
    pub fn state(&self) -> RaterState {
        RaterState { period: self.period, tenants: self.tenants.clone() }
    }

    /// Takes notice of one tenant's hour before any is rated: volume tiers depend on the whole period.
    /// Needed for every hour of it if [`PriceBooks::has_volume_tiers`], and else of no account.
    pub fn scan(&mut self, rows: Vec<UsageHour>) {
        let rows = in_order(rows);
        let (Some(first), Some(decided)) = (rows.first(), self.decide(&rows)) else { return };
        let (period, tenant) = (period(first.hour).0, first.tenant.clone());
        for (row, decision) in rows.iter().zip(decided) {
            let Some((sku, factor)) = decision.charged else { continue };
            let key = (period, tenant.clone(), (sku.id, sku.unit));
            let state = self.scanned.entry(key).or_default();
            let quantity = take_quantity(row, sku, factor, &mut state.carry);
            state.position = state.position.plus(&quantity);
        }
    }

    /// Rates all rows of one tenant's hour, as they are kept, in the order of container and meter: what no
    /// container explains becomes a row at the end.
    pub fn rate_hour(&mut self, rows: Vec<UsageHour>) -> Vec<RatedRow> {
        let rows = in_order(rows);
        let Some(first) = rows.first() else { return Vec::new() };
        let begin = period(first.hour).0;
        if self.period != Some(begin) {
            self.tenants.clear();
            self.period = Some(begin);
        }
        let decided = self.decide(&rows).unwrap_or_default();
        let mut state = self.tenants.remove(&first.tenant).unwrap_or_default();
        let tenant = first.tenant.clone();
        let mut name: Arc<str> = first.tenant_name.as_str().into();
        let mut rated = Vec::with_capacity(rows.len());
        for (row, decision) in rows.into_iter().zip(decided) {
            if *name != *row.tenant_name {
                name = row.tenant_name.as_str().into();
            }
            self.rate(row, &name, &decision, &mut state, &mut rated);
        }
        self.tenants.insert(tenant, state);
        rated
    }

    /// What is still missing to the minimum of each SKU that a tenant used: rows of the hour in which it
    /// was used last. For the end of the period; nothing changes when it is asked for again.
    pub fn minimums(&self, tenant: &TenantId) -> Vec<RatedRow> {
        let Some(state) = self.tenants.get(tenant) else { return Vec::new() };
        let rows = state.with_minimum.iter().filter_map(|(key, last)| {
            let book = self.books.at(last.hour)?;
            let sku = book.sku(last.meter).filter(|sku| (sku.id, sku.unit) == *key)?;
            let used = state.skus.get(key).map_or_else(Amount::zero, |state| state.position.clone());
            let quantity = sku.minimum_quantity.as_ref()?.minus(&used);
            if quantity.is_negative() || quantity.is_zero() {
                return None;
            }
            let contract = self.contracts.at(tenant, last.hour);
            let list = sku.step_after(&used).0.unit_price.clone();
            let usage = UsageHour {
                container: None,
                container_name: String::new(),
                labels: BTreeMap::new(),
                quantity: 0,
                ..last.clone()
            };
            Some(self.row(
                Some(book),
                contract,
                &last.tenant_name.as_str().into(),
                UsageCharge {
                    usage,
                    sku: sku.id,
                    tier: Tier::Minimum,
                    policy: sku.policy.as_str(),
                    unit: sku.unit,
                    quantity,
                    contracted_unit_price: contracted(contract, sku.id, &list),
                    list_unit_price: list,
                    relief: None,
                },
            ))
        });
        rows.collect()
    }

    /// What each row is charged by. Rows of one hour and tenant, those of a container side by side.
    fn decide(&self, rows: &[UsageHour]) -> Option<Vec<Decision<'a>>> {
        let first = rows.first()?;
        let book = self.books.at(first.hour);
        let contract = self.contracts.at(&first.tenant, first.hour);
        let mut decided = Vec::with_capacity(rows.len());
        for of_container in rows.chunk_by(|a, b| a.container == b.container) {
            for row in of_container {
                let charged = book
                    .filter(|book| row.container.is_some() || book.price_unattributed)
                    .and_then(|book| book.sku(row.meter))
                    .filter(|sku| sku.policy != Policy::Max || is_greatest(row, of_container))
                    .and_then(|sku| Some((sku, sku.factor(row.meter)?)));
                decided.push(Decision { book, contract, charged });
            }
        }
        Some(decided)
    }

    fn row(
        &self,
        book: Option<&PriceBook>,
        contract: Option<&Contract>,
        tenant_name: &Arc<str>,
        usage: UsageCharge,
    ) -> RatedRow {
        RatedRow {
            tenant: usage.usage.tenant.clone(),
            tenant_name: Arc::clone(tenant_name),
            from: usage.usage.hour,
            to: Timestamp(usage.usage.hour.0.saturating_add(HOUR_US)),
            currency: Arc::clone(&self.currency),
            price_book: book.map(|book| book.id.clone()),
            contract: contract.map(|contract| contract.id.clone()),
            charge: Charge::Usage(Box::new(usage)),
        }
    }

    fn rate(
        &self,
        usage: UsageHour,
        tenant_name: &Arc<str>,
        decision: &Decision<'_>,
        tenant: &mut TenantState,
        rated: &mut Vec<RatedRow>,
    ) {
        let Decision { book, contract, charged } = decision;
        let Some((sku, factor)) = *charged else {
            let quantity = exact_quantity(&usage);
            rated.push(self.row(
                *book,
                *contract,
                tenant_name,
                UsageCharge {
                    sku: usage.meter.as_str(),
                    tier: Tier::Standard,
                    policy: "none",
                    unit: PricingUnit::of(usage.meter).first().copied().unwrap_or(PricingUnit::CoreSeconds),
                    quantity,
                    list_unit_price: Amount::zero(),
                    contracted_unit_price: Amount::zero(),
                    relief: None,
                    usage,
                },
            ));
            return;
        };
        let key = (sku.id, sku.unit);
        let state = tenant.skus.entry(key).or_default();
        let mut rest = take_quantity(&usage, sku, factor, &mut state.carry);
        if sku.minimum_quantity.is_some() && !rest.is_zero() {
            tenant.with_minimum.insert(key, usage.clone());
        }
        let total = (sku.tiering == Tiering::Volume).then(|| {
            let of_period = (period(usage.hour).0, usage.tenant.clone(), key);
            self.scanned
                .get(&of_period)
                .map_or_else(|| state.position.plus(&rest), |all| all.position.clone())
        });
        let whole = rest.clone();
        let mut units = usage.quantity;
        let priced = |part: Part, usage: UsageHour| {
            let charge = UsageCharge {
                usage,
                sku: sku.id,
                tier: part.tier,
                policy: sku.policy.as_str(),
                unit: sku.unit,
                quantity: part.quantity,
                list_unit_price: part.list,
                contracted_unit_price: part.contracted,
                relief: part.relief,
            };
            self.row(*book, *contract, tenant_name, charge)
        };
        loop {
            let part = next_part(sku, *contract, total.as_ref(), &rest, usage.container.as_ref(), state);
            rest = rest.minus(&part.quantity);
            if rest.is_zero() {
                rated.push(priced(part, UsageHour { quantity: units, ..usage }));
                return;
            }
            let share = share_of(usage.quantity, &part.quantity, &whole).min(units);
            units = units.saturating_sub(share);
            rated.push(priced(part, UsageHour { quantity: share, ..usage.clone() }));
        }
    }
}

/// What is rated of a tenant's hour, in its order: containers first, then what none of them explains.
fn in_order(rows: Vec<UsageHour>) -> Vec<UsageHour> {
    let mut rows = window::attribute(rows);
    rows.sort_by(|a, b| {
        let outside = |row: &UsageHour| row.container.is_none();
        (outside(a), &a.container, a.meter).cmp(&(outside(b), &b.container, b.meter))
    });
    rows
}

/// What a row of usage is charged by.
#[derive(Debug, Clone, Copy)]
struct Decision<'a> {
    book: Option<&'a PriceBook>,
    contract: Option<&'a Contract>,
    charged: Option<(&'a Sku, &'a Amount)>,
}

/// Whether a row is the greater of its container's two of a resource; of equals, the used one.
fn is_greatest(row: &UsageHour, of_container: &[UsageHour]) -> bool {
    let own = exact_quantity(row);
    of_container.iter().all(|other| {
        if !is_joint(other.meter, row.meter) {
            return true;
        }
        let theirs = exact_quantity(other);
        own > theirs || (own == theirs && row.meter < other.meter)
    })
}

/// Whether two meters are those of one resource.
fn is_joint(a: Meter, b: Meter) -> bool {
    use Meter as M;
    let same = |x, y| (a == x && b == y) || (a == y && b == x);
    same(M::CpuUsed, M::CpuReserved) || same(M::MemoryUsed, M::MemoryReserved)
}

/// A row's quantity in the meter's usual unit, which ends in decimal.
fn exact_quantity(usage: &UsageHour) -> Amount {
    Amount::from_units(usage.quantity, usage.meter.pricing_unit_exponent())
}

/// By what the usual unit's quantity is multiplied and divided.
pub(crate) fn conversion(unit: PricingUnit) -> (u64, u64) {
    const GB: u64 = 1_000_000_000;
    const GIB: u64 = 1 << 30;
    match unit {
        PricingUnit::CoreSeconds
        | PricingUnit::GbSeconds
        | PricingUnit::Gb
        | PricingUnit::ContainerSeconds
        | PricingUnit::Starts => (1, 1),
        PricingUnit::CoreHours | PricingUnit::GbHours | PricingUnit::ContainerHours => (1, 3_600),
        PricingUnit::GibHours => (GB, GIB.saturating_mul(3_600)),
        PricingUnit::Gib => (GB, GIB),
    }
}

/// A row's quantity in the SKU's unit. What is cut off stays in `carry` for the next row.
fn take_quantity(usage: &UsageHour, sku: &Sku, factor: &Amount, carry: &mut Amount) -> Amount {
    let exact = exact_quantity(usage).times(factor);
    let (times, divisor) = conversion(sku.unit);
    if divisor == 1 {
        return exact;
    }
    let [times, divisor] = [times, divisor].map(|number| Amount::from_units(number.into(), 0));
    let all = exact.times(&times).plus(carry);
    let quantity = rounding::quotient(&all, &divisor);
    *carry = all.minus(&quantity.times(&divisor));
    quantity
}

/// What the tenant pays for a unit.
fn contracted(contract: Option<&Contract>, sku: &str, list: &Amount) -> Amount {
    contract.map_or_else(|| list.clone(), |contract| contract.unit_price(sku, list))
}

/// The part of a row's metered quantity that belongs to a part of its priced quantity, rounded down.
fn share_of(units: u128, part: &Amount, whole: &Amount) -> u128 {
    let exact = rounding::quotient(&part.times(&Amount::from_units(units, 0)), whole);
    exact.to_string().split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The next stretch of a quantity that has one price.
struct Part {
    tier: Tier,
    quantity: Amount,
    list: Amount,
    contracted: Amount,
    relief: Option<Relief>,
}

fn next_part(
    sku: &Sku,
    contract: Option<&Contract>,
    total: Option<&Amount>,
    rest: &Amount,
    container: Option<&ContainerId>,
    state: &mut SkuState,
) -> Part {
    let (mut step, end) = sku.step_after(&state.position);
    let mut quantity = rest.clone();
    let mut cut = |limit: &Amount| {
        if *limit < quantity {
            quantity = limit.clone();
        }
    };
    let is_free = step.tier == Tier::Number(0);
    match total {
        // The allowance comes first; all beyond it costs what the last unit does.
        Some(total) if !is_free => step = sku.step_of_last(total),
        _ => end.iter().for_each(|end| cut(&end.minus(&state.position))),
    }
    let list = step.unit_price.clone();
    let mut part = Part {
        tier: step.tier,
        contracted: contracted(contract, sku.id, &list),
        list,
        relief: None,
        quantity: Amount::zero(),
    };
    if !is_free && let Some(free) = contract.and_then(|contract| contract.free_quantity(sku.id)) {
        let left = free.minus(&state.free_used);
        if !left.is_negative() && !left.is_zero() && !rest.is_zero() {
            cut(&left);
            state.free_used = state.free_used.plus(&quantity);
            part.relief = Some(Relief::FreeQuantity);
            part.contracted = Amount::zero();
        }
    }
    if let Some(cap) = &sku.monthly_cap
        && !part.contracted.is_zero()
    {
        let spent = state.spent.entry(container.cloned()).or_insert_with(Amount::zero);
        let room = cap.minus(spent);
        if quantity.times(&part.contracted) > room {
            let affordable =
                if room.is_negative() { Amount::zero() } else { rounding::quotient(&room, &part.contracted) };
            if affordable.is_zero() {
                part.relief = Some(Relief::Cap);
                part.contracted = Amount::zero();
                // What is too little for the cut quantity is not charged later either.
                *spent = cap.clone();
            } else {
                quantity = affordable;
            }
        }
        *spent = spent.plus(&quantity.times(&part.contracted));
    }
    state.position = state.position.plus(&quantity);
    Part { quantity, ..part }
}

/// What was counted in some time, such as since the reading before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// What.
    pub meter: Meter,
    /// How much.
    pub quantity: u128,
    /// In how long.
    pub duration_ns: u64,
}

/// What these flows cost in an hour by the book's first prices if they go on like this, rounded for
/// showing. Tiers, caps and contracts depend on the whole period and are not looked at.
pub fn rate_per_hour(book: &PriceBook, flows: &[Flow]) -> Amount {
    per_hour(book, flows, Sku::first_price)
}

/// The same by what this tenant pays for a unit.
pub fn contracted_rate_per_hour(book: &PriceBook, contract: Option<&Contract>, flows: &[Flow]) -> Amount {
    per_hour(book, flows, |sku| contracted(contract, sku.id, &sku.first_price()))
}

/// What these flows cost this tenant in an hour at most: by the highest price that any of their tiers has.
/// Allowances, free quantities and caps are not looked at.
pub fn highest_rate_per_hour(book: &PriceBook, contract: Option<&Contract>, flows: &[Flow]) -> Amount {
    per_hour(book, flows, |sku| {
        let prices = sku.prices().map(|price| contracted(contract, sku.id, price));
        prices.max().unwrap_or_else(Amount::zero)
    })
}

fn per_hour(book: &PriceBook, flows: &[Flow], price: impl Fn(&Sku) -> Amount) -> Amount {
    let cost = |flow: &Flow| {
        let sku = book.sku(flow.meter)?;
        let counted = |flow: &Flow| Amount::from_units(flow.quantity, flow.meter.pricing_unit_exponent());
        let greater = |other: &Flow| is_joint(other.meter, flow.meter) && counted(other) > counted(flow);
        if sku.policy == Policy::Max && flows.iter().any(greater) {
            return None;
        }
        let (times, divisor) = conversion(sku.unit);
        let quantity =
            counted(flow).times(sku.factor(flow.meter)?).times(&Amount::from_units(times.into(), 0));
        let cost = rounding::per_hour(&quantity.times(&price(sku)), flow.duration_ns)?;
        let divisor = Amount::from_units(divisor.into(), 0);
        Some(if divisor == Amount::one() { cost } else { rounding::quotient(&cost, &divisor) })
    };
    flows.iter().filter_map(cost).sum()
}

/// What a tenant owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Sum of the amounts, exact.
    pub amount: Amount,
    /// ISO 4217 code.
    pub currency: String,
    /// Rows that were added.
    pub rows: u64,
}

/// Sums per tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals(pub BTreeMap<TenantId, Total>);

impl Totals {
    /// Adds a row.
    pub fn add(&mut self, row: &RatedRow) {
        let total = self.0.entry(row.tenant.clone()).or_insert_with(|| Total {
            amount: Amount::zero(),
            currency: row.currency.to_string(),
            rows: 0,
        });
        total.amount = total.amount.plus(&row.billed_cost());
        total.rows = total.rows.saturating_add(1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
