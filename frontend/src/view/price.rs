//! Prices and contracts in words.

use wharf_shared::billing::{
    ContractSpec, CreditSpec, Policy, PriceBookSpec, PriceSpec, Rounding, SkuTerms, TierSpec, Tiering,
};
use wharf_shared::decimal::Decimal;

use super::moment;
use super::money;

/// What is charged of a resource: the policy in words.
pub(crate) fn policy(price: &PriceSpec) -> String {
    match &price.policy {
        None | Some(Policy::Used | Policy::Reserved) if price.meter.as_str().ends_with("_reserved") => {
            "what is reserved".to_owned()
        }
        None | Some(Policy::Used) => "what is used".to_owned(),
        Some(Policy::Reserved) => "what is reserved".to_owned(),
        Some(Policy::Max) => "used or reserved, the greater of each hour".to_owned(),
        Some(Policy::Blend { used, reserved }) => format!("{used} × used + {reserved} × reserved"),
    }
}

/// What a unit costs: one text for each tier.
pub(crate) fn prices(price: &PriceSpec, currency: &str) -> Vec<String> {
    match &price.unit_price {
        Some(unit_price) => vec![money::exact(unit_price, currency)],
        None => price.tiers.iter().map(|tier| tier_words(tier, currency)).collect(),
    }
}

fn tier_words(tier: &TierSpec, currency: &str) -> String {
    let price = money::exact(&tier.unit_price, currency);
    match &tier.to {
        Some(to) => format!("{} to {}: {price}", money::number(&tier.from), money::number(to)),
        None => format!("from {} on: {price}", money::number(&tier.from)),
    }
}

/// What goes beyond a price for each unit.
pub(crate) fn conditions(price: &PriceSpec, currency: &str) -> Vec<String> {
    let mut said = Vec::new();
    if price.tiers.len() > 1 {
        said.push(match price.tiering {
            Tiering::Graduated => "each unit at its own tier".to_owned(),
            Tiering::Volume => "all units at the tier of their sum".to_owned(),
        });
    }
    let mut add = |number: &Option<Decimal>, say: &dyn Fn(String) -> String| {
        said.extend(number.as_ref().map(|number| say(money::number(number))));
    };
    add(&price.allowance, &|units| format!("{units} free per tenant and month"));
    add(&price.minimum_quantity, &|units| format!("at least {units} per tenant and month"));
    add(&price.monthly_cap, &|amount| {
        format!("a container costs at most {amount}\u{202f}{currency} per month")
    });
    said.extend(price.tax_class.as_ref().map(|class| format!("tax class {class}")));
    said
}

/// Whether the short form can say all of a book: prices of single meters in their usual units.
pub(crate) fn is_simple(book: &PriceBookSpec) -> bool {
    let is_flat = |price: &PriceSpec| {
        price
            .unit_price
            .as_ref()
            .is_some_and(|unit_price| *price == PriceSpec::flat(price.meter, unit_price.clone()))
    };
    book.rounding == Rounding::default() && book.prices.iter().all(is_flat)
}

/// A difference of amounts, with its sign and in words that need no colour.
pub(crate) fn difference(amount: &Decimal, currency: &str) -> String {
    let is_zero = !amount.as_str().contains(|c: char| matches!(c, '1'..='9'));
    let shown = money::exact(amount, currency);
    match (is_zero, amount.is_negative()) {
        (true, _) => "the same".to_owned(),
        (false, true) => format!("{shown}, less"),
        (false, false) => format!("+{shown}, more"),
    }
}

/// When a contract holds.
pub(crate) fn span(contract: &ContractSpec) -> String {
    let from = moment::date(contract.from);
    contract
        .to
        .map_or_else(|| format!("from {from} on"), |to| format!("{from} to before {}", moment::date(to)))
}

/// What a contract says, a sentence each.
pub(crate) fn terms(contract: &ContractSpec) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(contract.discount_percent.as_ref().map(|percent| format!("{percent} % off every price")));
    said.extend(contract.terms.iter().map(sku_words));
    said.extend(contract.credits.iter().map(credit_words));
    said.extend(contract.taxes.iter().map(|(class, percent)| format!("{percent} % tax, class {class}")));
    said.extend(contract.payment_days.map(|days| format!("statements are due after {days} days")));
    said
}

fn sku_words(terms: &SkuTerms) -> String {
    let mut said = Vec::new();
    said.extend(terms.unit_price.as_ref().map(|price| format!("{} per unit", money::number(price))));
    said.extend(terms.discount_percent.as_ref().map(|percent| format!("{percent} % off")));
    said.extend(
        terms.free_quantity.as_ref().map(|units| format!("{} units free per month", money::number(units))),
    );
    format!("{}: {}", terms.sku, said.join(", "))
}

fn credit_words(credit: &CreditSpec) -> String {
    let end = credit.expires_at.map(|at| format!(", for months that begin before {}", moment::date(at)));
    format!("credit {}: {}{}", credit.name, money::number(&credit.amount), end.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> PriceSpec {
        serde_json::from_str(text).expect("a price")
    }

    #[test]
    fn a_price_with_everything_is_said_in_full() {
        let full = price(
            r#"{"meter":"memory_used","unit":"GiB-Hours","policy":"max","allowance":"10","minimum_quantity":"20",
                "monthly_cap":"99","tiering":"volume","tax_class":"reduced","tiers":[
                {"from":"10","to":"1000","unit_price":"0.5"},{"from":"1000","unit_price":"0.25"}]}"#,
        );
        assert_eq!(policy(&full), "used or reserved, the greater of each hour");
        assert_eq!(
            prices(&full, "EUR"),
            ["10 to 1\u{202f}000: 0.50\u{202f}EUR", "from 1\u{202f}000 on: 0.25\u{202f}EUR"]
        );
        assert_eq!(
            conditions(&full, "EUR"),
            [
                "all units at the tier of their sum",
                "10 free per tenant and month",
                "at least 20 per tenant and month",
                "a container costs at most 99\u{202f}EUR per month",
                "tax class reduced"
            ]
        );
    }

    #[test]
    fn the_short_form_is_offered_only_where_it_loses_nothing() {
        let book = |prices: &str| -> PriceBookSpec {
            let text =
                format!(r#"{{"currency":"EUR","effective_from":"2026-11-01T00:00:00Z","prices":{prices}}}"#);
            serde_json::from_str(&text).expect("a book")
        };
        assert!(is_simple(&book(r#"[{"meter":"cpu_used","unit_price":"1"}]"#)));
        assert!(!is_simple(&book(r#"[{"meter":"cpu_used","unit_price":"1","allowance":"5"}]"#)));
        assert!(!is_simple(&book(r#"[{"meter":"cpu_used","unit_price":"1","unit":"Core-Hours"}]"#)));
    }

    #[test]
    fn what_is_reserved_is_never_called_used() {
        assert_eq!(policy(&price(r#"{"meter":"cpu_reserved","unit_price":"1"}"#)), "what is reserved");
        assert_eq!(
            policy(&price(r#"{"meter":"cpu_used","unit_price":"1","policy":"reserved"}"#)),
            "what is reserved"
        );
        assert_eq!(policy(&price(r#"{"meter":"cpu_used","unit_price":"1"}"#)), "what is used");
    }

    #[test]
    fn a_difference_needs_no_colour() {
        let shown = |text: &str| difference(&text.parse().expect("a decimal"), "EUR");
        assert_eq!(shown("0.00"), "the same");
        assert_eq!(shown("1.50"), "+1.50\u{202f}EUR, more");
        assert_eq!(shown("-1.50"), "\u{2212}1.50\u{202f}EUR, less");
    }

    #[test]
    fn a_contract_is_said_in_sentences() {
        let contract: ContractSpec = serde_json::from_str(
            r#"{"tenant":"tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b","from":"2026-11-01T00:00:00Z",
                "discount_percent":"10","terms":[{"sku":"cpu","unit_price":"2","free_quantity":"5"}],
                "credits":[{"name":"welcome","amount":"50","expires_at":"2027-01-01T00:00:00Z"}],
                "taxes":{"standard":"20"},"payment_days":30}"#,
        )
        .expect("a contract");
        assert_eq!(span(&contract), "from 2026-11-01 on");
        assert_eq!(
            terms(&contract),
            [
                "10 % off every price",
                "cpu: 2 per unit, 5 units free per month",
                "credit welcome: 50, for months that begin before 2027-01-01",
                "20 % tax, class standard",
                "statements are due after 30 days"
            ]
        );
    }
}
