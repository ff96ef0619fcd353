//! Budgets: which thresholds are reached, what follows from them, and what the month will cost.
//!
//! A threshold is reached when its part of the amount was spent, to the last digit. What follows is asked of
//! all that were reached, newly or before, so that an action that was interrupted is found again from what is
//! written down. Rates and forecasts are for showing; nothing is decided by them.

use std::collections::BTreeSet;

use wharf_shared::budget::{BudgetAction, BudgetSpec, BudgetThreshold};
use wharf_shared::decimal::Decimal;
use wharf_shared::problem::FieldProblem;
use wharf_shared::time::{HOUR_US, Timestamp};

use crate::amount::{Amount, TooLong};
use crate::rounding;

/// Thresholds of one budget.
pub const THRESHOLDS_MAX: usize = 20;
/// The greatest threshold, in per cent.
pub const PERCENT_MAX: u32 = 1_000;
/// From a stored reading to the end of what runs: one look a second, and one second for the deed itself.
pub const LATENCY_MS: u64 = 2_000;

/// Digits of an amount before and after the point.
const AMOUNT_DIGITS: (usize, u64) = (15, 6);
/// Digits after the point with which amounts are shown.
const SHOWN_DIGITS: i64 = 18;
/// Characters of an address.
const URL_MAX: usize = 2_000;

/// Says all that is wrong with a budget, given the currency of the price books. Whether the webhook's host may
/// be asked is for the caller to say.
pub fn problems(spec: &BudgetSpec, currency: &str) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    let mut refuse =
        |field: &str, detail: String| found.push(FieldProblem { field: field.to_owned(), detail });
    let amount = Amount::from(&spec.amount);
    let whole = amount.to_string().split('.').next().map_or(0, str::len);
    if amount.is_negative() || amount.is_zero() {
        refuse("amount", "must be above 0".to_owned());
    } else if whole > AMOUNT_DIGITS.0 || amount.fraction_digits() > AMOUNT_DIGITS.1 {
        let (whole, fraction) = AMOUNT_DIGITS;
        refuse("amount", format!("at most {whole} digits before the point and {fraction} after it"));
    }
    if currency == crate::price::NO_CURRENCY {
        refuse("currency", "there is no price book yet, so nothing costs anything; add one first".to_owned());
    } else if spec.currency != currency {
        refuse("currency", format!("the price books are in {currency}, not in {:?}", spec.currency));
    }
    if spec.thresholds.is_empty() || spec.thresholds.len() > THRESHOLDS_MAX {
        refuse("thresholds", format!("1 to {THRESHOLDS_MAX} are needed"));
    }
    for (at, BudgetThreshold { percent, actions }) in spec.thresholds.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| spec.thresholds.get(before));
        let field = format!("thresholds[{at}].percent");
        if !(1..=PERCENT_MAX).contains(percent) {
            refuse(&field, format!("must lie between 1 and {PERCENT_MAX}"));
        } else if let Some(before) = before.filter(|before| before.percent >= *percent) {
            refuse(&field, format!("thresholds rise: {percent} comes after {}", before.percent));
        }
        if actions.contains(&BudgetAction::Webhook) && spec.webhook_url.is_none() {
            let detail = "a threshold with the action webhook needs it".to_owned();
            refuse("webhook_url", detail);
        }
    }
    if spec.webhook_url.as_ref().is_some_and(|url| url.len() > URL_MAX) {
        refuse("webhook_url", format!("at most {URL_MAX} characters"));
    }
    found.dedup();
    found
}

/// What holds because of the thresholds that were reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// The lowest threshold that has containers refused, if one has: freezing and stopping refuse them too, or
    /// each would run until it is seen.
    pub refuse_starts: Option<u32>,
    /// The lowest threshold that has them paused.
    pub freeze: Option<u32>,
    /// The lowest threshold that has them stopped. What is stopped need not be paused.
    pub stop: Option<u32>,
}

impl Orders {
    /// The actions that hold.
    pub fn actions(&self) -> Vec<BudgetAction> {
        let each = [
            (self.refuse_starts, BudgetAction::RefuseStarts),
            (self.freeze, BudgetAction::Freeze),
            (self.stop, BudgetAction::Stop),
        ];
        each.into_iter().filter_map(|(by, action)| by.map(|_| action)).collect()
    }
}

/// What follows from an amount that was spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Thresholds that were not reached before, in their order.
    pub newly: Vec<&'a BudgetThreshold>,
    /// What holds from now on.
    pub orders: Orders,
}

/// Decides by what was spent, and by which thresholds (in per cent) had been reached before. Those stay reached
/// whatever was spent: a correction must not have them told twice.
pub fn decide<'a>(spec: &'a BudgetSpec, spent: &Amount, reached: &BTreeSet<u32>) -> Decision<'a> {
    let newly: Vec<_> = spec
        .thresholds
        .iter()
        .filter(|threshold| !reached.contains(&threshold.percent) && is_reached(spec, threshold, spent))
        .collect();
    let mut all = reached.clone();
    all.extend(newly.iter().map(|threshold| threshold.percent));
    Decision { orders: orders(spec, &all), newly }
}

/// What holds when these thresholds were reached.
pub fn orders(spec: &BudgetSpec, reached: &BTreeSet<u32>) -> Orders {
    use BudgetAction::{Freeze, RefuseStarts, Stop};
    let first = |of: &[BudgetAction]| {
        let mut thresholds = spec.thresholds.iter().filter(|threshold| reached.contains(&threshold.percent));
        let asked = |threshold: &&BudgetThreshold| threshold.actions.iter().any(|action| of.contains(action));
        thresholds.find(asked).map(|threshold| threshold.percent)
    };
    Orders {
        refuse_starts: first(&[RefuseStarts, Freeze, Stop]),
        freeze: first(&[Freeze]),
        stop: first(&[Stop]),
    }
}

fn is_reached(spec: &BudgetSpec, threshold: &BudgetThreshold, spent: &Amount) -> bool {
    *spent >= amount_of(spec, threshold)
}

/// At which amount a threshold is reached.
pub fn amount_of(spec: &BudgetSpec, threshold: &BudgetThreshold) -> Amount {
    Amount::from(&spec.amount).times(&Amount::from_units(threshold.percent.into(), 2))
}

/// The amount of the lowest threshold that was not reached; `None` after the last.
pub fn next_amount(spec: &BudgetSpec, reached: &BTreeSet<u32>) -> Option<Amount> {
    let next = spec.thresholds.iter().find(|threshold| !reached.contains(&threshold.percent));
    next.map(|threshold| amount_of(spec, threshold))
}

/// What was spent, in per cent of the budget's amount, cut after one digit.
pub fn percent_of(spec: &BudgetSpec, spent: &Amount) -> Amount {
    let whole = Amount::from(&spec.amount);
    if whole.is_negative() || whole.is_zero() || spent.is_negative() {
        return Amount::zero();
    }
    rounding::cut(&rounding::quotient(&spent.scaled(2), &whole), 1)
}

/// An amount as it is shown: cut after eighteen digits.
///
/// # Errors
///
/// A number that is too long for the wire.
pub fn shown(amount: &Amount) -> Result<Decimal, TooLong> {
    rounding::cut(amount, SHOWN_DIGITS).to_decimal()
}

/// What an hour cost on average in this time; zero without any.
pub fn average_per_hour(spent: &Amount, from: Timestamp, to: Timestamp) -> Amount {
    per_hour(spent, to.0.saturating_sub(from.0))
}

/// What will have been spent when a time is over in which each hour costs this much. Never less than was.
pub fn forecast(spent: &Amount, cost_per_hour: &Amount, now: Timestamp, to: Timestamp) -> Amount {
    spent.plus(&in_time(cost_per_hour, to.0.saturating_sub(now.0)))
}

/// By how much a threshold may be passed before its action holds: what the tenant can spend from one reading to
/// the next, and until it was seen and done.
pub fn overshoot_limit(limit_per_hour: &Amount, interval_ms: u64) -> Amount {
    let time_us = interval_ms.saturating_add(LATENCY_MS).saturating_mul(1_000);
    in_time(limit_per_hour, i64::try_from(time_us).unwrap_or(i64::MAX))
}

/// What an hour at this rate costs in a time, rounded for showing; nothing in a negative time or at a negative
/// rate.
pub fn in_time(per_hour: &Amount, time_us: i64) -> Amount {
    let Ok(time_us) = u128::try_from(time_us) else { return Amount::zero() };
    if per_hour.is_negative() {
        return Amount::zero();
    }
    let hour = Amount::from_units(HOUR_US.unsigned_abs().into(), 0);
    rounding::quotient(&per_hour.times(&Amount::from_units(time_us, 0)), &hour)
}

fn per_hour(spent: &Amount, time_us: i64) -> Amount {
    let time_ns = u64::try_from(time_us).unwrap_or(0).saturating_mul(1_000);
    rounding::per_hour(spent, time_ns).unwrap_or_else(Amount::zero)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().expect("an amount")
    }

    fn spec(of: &str, thresholds: &[(u32, &[BudgetAction])]) -> BudgetSpec {
        let thresholds = thresholds.iter();
        BudgetSpec {
            amount: of.parse().expect("a decimal"),
            currency: "EUR".to_owned(),
            thresholds: thresholds
                .map(|(percent, actions)| BudgetThreshold { percent: *percent, actions: actions.to_vec() })
                .collect(),
            webhook_url: None,
        }
    }

    const ALL: [(u32, &[BudgetAction]); 4] = [
        (50, &[]),
        (90, &[BudgetAction::RefuseStarts]),
        (100, &[BudgetAction::Freeze]),
        (120, &[BudgetAction::Stop]),
    ];

    fn fields(spec: &BudgetSpec) -> Vec<String> {
        problems(spec, "EUR").into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_threshold_is_reached_at_its_amount_and_not_a_digit_before() {
        let spec = spec("0.01", &ALL);
        let newly = |spent: &str| {
            let decided = decide(&spec, &amount(spent), &BTreeSet::new());
            decided.newly.iter().map(|threshold| threshold.percent).collect::<Vec<_>>()
        };
        assert_eq!(newly("0.00499999999999999999999999999999"), [] as [u32; 0]);
        assert_eq!(newly("0.005"), [50]);
        assert_eq!(newly("0.00999999999999999999999999999999"), [50, 90]);
        assert_eq!(newly("0.01"), [50, 90, 100]);
        assert_eq!(newly("7"), [50, 90, 100, 120]);
    }

    #[test]
    fn what_was_told_is_not_told_again_and_still_holds_when_a_correction_takes_it_back() {
        let spec = spec("10", &ALL);
        let decided = decide(&spec, &amount("1"), &[50, 90, 100].into());
        assert_eq!(decided.newly, Vec::<&BudgetThreshold>::new());
        let orders = Orders { refuse_starts: Some(90), freeze: Some(100), stop: None };
        assert_eq!(decided.orders, orders);
        assert_eq!(orders.actions(), [BudgetAction::RefuseStarts, BudgetAction::Freeze]);
    }

    #[test]
    fn who_freezes_or_stops_refuses_starts_too() {
        for action in [BudgetAction::Freeze, BudgetAction::Stop] {
            let spec = spec("10", &[(80, &[]), (100, &[action])]);
            assert_eq!(orders(&spec, &[80].into()).refuse_starts, None);
            assert_eq!(orders(&spec, &[80, 100].into()).refuse_starts, Some(100), "{action:?}");
        }
        let only_told = spec("10", &[(100, &[BudgetAction::Webhook])]);
        assert_eq!(orders(&only_told, &[100].into()), Orders::default());
    }

    #[test]
    fn a_threshold_that_the_budget_has_no_more_orders_nothing() {
        let spec = spec("10", &[(100, &[BudgetAction::Stop])]);
        assert_eq!(orders(&spec, &[90].into()), Orders::default());
    }

    #[test]
    fn bad_budgets_are_refused_field_by_field() {
        let good = spec("12.5", &ALL);
        assert_eq!(fields(&good), [] as [&str; 0]);
        for bad in ["0", "-1", "0.0000001", "1000000000000000"] {
            assert_eq!(fields(&spec(bad, &ALL)), ["amount"], "{bad}");
        }
        let with = |change: fn(&mut BudgetSpec)| {
            let mut bad = good.clone();
            change(&mut bad);
            fields(&bad)
        };
        assert_eq!(with(|spec| spec.currency = "USD".to_owned()), ["currency"]);
        assert_eq!(with(|spec| spec.thresholds.clear()), ["thresholds"]);
        assert_eq!(with(|spec| spec.thresholds.swap(1, 2)), ["thresholds[2].percent"]);
        assert_eq!(with(|spec| spec.thresholds[1].percent = 50), ["thresholds[1].percent"]);
        assert_eq!(with(|spec| spec.thresholds[3].percent = 1_001), ["thresholds[3].percent"]);
        let first = with(|spec| spec.thresholds[0].percent = 0);
        assert_eq!(first, ["thresholds[0].percent"]);
        let silent = with(|spec| spec.thresholds[0].actions = vec![BudgetAction::Webhook]);
        assert_eq!(silent, ["webhook_url"]);
        let found = problems(&good, crate::price::NO_CURRENCY);
        assert!(found.len() == 1 && found[0].detail.contains("price book"), "{found:?}");
    }

    #[test]
    fn forecasts_go_on_as_it_went_so_far_to_the_end_of_the_month() {
        let day = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (from, now, to) = (day("2026-02-01"), day("2026-02-08"), day("2026-03-01"));
        let average = average_per_hour(&amount("16.8"), from, now);
        assert_eq!(average.to_string(), "0.1");
        assert_eq!(forecast(&amount("16.8"), &average, now, to).to_string(), "67.2");
        // At the very begin there is no average, and at the end nothing is left to come.
        assert_eq!(average_per_hour(&amount("5"), from, from), Amount::zero());
        assert_eq!(forecast(&amount("5"), &amount("9"), to, to).to_string(), "5");
        assert_eq!(forecast(&amount("5"), &amount("9"), day("2026-03-02"), to).to_string(), "5");
        let leap = day("2028-03-01").0 - day("2028-02-01").0;
        assert_eq!(in_time(&amount("1"), leap).to_string(), (29 * 24).to_string());
    }

    #[test]
    fn overshoot_is_bounded_by_the_burn_limit_for_an_interval_and_two_seconds() {
        assert_eq!(overshoot_limit(&amount("3600"), 10_000).to_string(), "12");
        assert_eq!(overshoot_limit(&amount("0"), 10_000), Amount::zero());
        assert_eq!(percent_of(&spec("3", &ALL), &amount("2")).to_string(), "66.6");
        assert_eq!(percent_of(&spec("3", &ALL), &amount("6")).to_string(), "200");
    }

    proptest! {
        /// In however many steps it is spent, and however often it is looked at again, each threshold is told once,
        /// in its order, and what holds in the end is what a single look would have found.
        #[test]
        fn each_threshold_is_told_once_whatever_the_steps(
            of in 1_u64..1_000_000, steps in proptest::collection::vec(0_u64..400_000, 1..30)
        ) {
            let spec = spec(&of.to_string(), &ALL);
            let (mut reached, mut told, mut spent) = (BTreeSet::new(), Vec::<u32>::new(), Amount::zero());
            for step in steps {
                spent = spent.plus(&Amount::from_units(step.into(), 0));
                for _ in 0..2 {
                    let decided = decide(&spec, &spent, &reached);
                    let percents: Vec<u32> = decided.newly.iter().map(|threshold| threshold.percent).collect();
                    told.extend(&percents);
                    reached.extend(percents);
                }
            }
            prop_assert!(told.is_sorted() && told.len() == reached.len(), "{:?}", told);
            let once = decide(&spec, &spent, &BTreeSet::new());
            let all: Vec<u32> = once.newly.iter().map(|threshold| threshold.percent).collect();
            prop_assert_eq!(&told, &all);
            prop_assert_eq!(once.orders, orders(&spec, &reached));
            let next = next_amount(&spec, &reached);
            prop_assert!(next.is_none_or(|next| next > spent));
        }

        /// More is never answered with less.
        #[test]
        fn spending_more_never_lifts_an_order(of in 1_u64..1_000, a in 0_u64..2_000, b in 0_u64..2_000) {
            let spec = spec(&of.to_string(), &ALL);
            let orders = |spent: u64| {
                decide(&spec, &Amount::from_units(spent.into(), 0), &BTreeSet::new()).orders.actions()
            };
            let (less, more) = (orders(a.min(b)), orders(a.max(b)));
            prop_assert!(less.iter().all(|action| more.contains(action)));
        }
    }
}
