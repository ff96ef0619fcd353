//! Price books and contracts: what a unit costs from when on, and for whom it costs less.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::{ContractId, PriceBookId, TenantId};
use crate::time::Timestamp;
use crate::usage::Meter;

macro_rules! pricing_units {
    ($($(#[$doc:meta])* $unit:ident = $word:literal,)*) => {
        /// What a price is for. The words are those of FOCUS.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum PricingUnit {
            $($(#[$doc])* #[serde(rename = $word)] $unit,)*
        }

        impl PricingUnit {
            /// All units.
            pub const ALL: &[Self] = &[$(Self::$unit),*];

            /// The word for it, as on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$unit => $word,)* }
            }
        }
    };
}

pricing_units! {
    /// One core for a second.
    CoreSeconds = "Core-Seconds",
    /// One core for an hour.
    CoreHours = "Core-Hours",
    /// 10⁹ bytes for a second.
    GbSeconds = "GB-Seconds",
    /// 10⁹ bytes for an hour.
    GbHours = "GB-Hours",
    /// 2³⁰ bytes for an hour.
    GibHours = "GiB-Hours",
    /// 10⁹ bytes.
    Gb = "GB",
    /// 2³⁰ bytes.
    Gib = "GiB",
    /// One container for a second.
    ContainerSeconds = "Container-Seconds",
    /// One container for an hour.
    ContainerHours = "Container-Hours",
    /// One start.
    Starts = "Starts",
}

impl PricingUnit {
    /// The units that a meter can be priced in, its usual one first.
    pub fn of(meter: Meter) -> &'static [Self] {
        match meter.unit() {
            "bytes" => &[Self::Gb, Self::Gib],
            "container-nanoseconds" => &[Self::ContainerSeconds, Self::ContainerHours],
            "starts" => &[Self::Starts],
            "byte-nanoseconds" => &[Self::GbSeconds, Self::GbHours, Self::GibHours],
            _ => &[Self::CoreSeconds, Self::CoreHours],
        }
    }
}

/// Which of a resource's two meters is charged: what was used, or what was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// What was used.
    Used,
    /// What was reserved.
    Reserved,
    /// The greater one of each container and hour.
    Max,
    /// So many parts of what was used and so many of what was reserved.
    Blend {
        /// Factor of what was used.
        used: Decimal,
        /// Factor of what was reserved.
        reserved: Decimal,
    },
}

impl Policy {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Reserved => "reserved",
            Self::Max => "max",
            Self::Blend { .. } => "blend",
        }
    }
}

/// How a SKU's tiers apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tiering {
    /// Each unit costs what the tier says that it falls into.
    #[default]
    Graduated,
    /// All units of the period cost what the tier says that their sum falls into.
    Volume,
}

/// A stretch `[from, to)` of a tenant's quantity in a period with its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TierSpec {
    /// First unit, in pricing units: the `to` of the tier before.
    pub from: Decimal,
    /// End; `null` for the last tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Decimal>,
    /// Price of one unit, exact.
    pub unit_price: Decimal,
}

/// One price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// What is priced. With the policies `max` and `blend`, one of the two meters of the resource.
    pub meter: Meter,
    /// Price of one unit, exact; not with `tiers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Decimal>,
    /// What the price is for: a core-second, a GB-second (10⁹ bytes) or a GB when absent. Quantities in
    /// units that do not end in decimal (hours, GiB) are cut after 12 digits, and what was cut is added
    /// to the next row of the same tenant and SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<PricingUnit>,
    /// Which of the resource's meters is charged; that of `meter` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Units that each tenant has for nothing in each period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowance: Option<Decimal>,
    /// Prices by quantity, per tenant and period, the first from the end of the allowance (or 0) on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierSpec>,
    /// How the tiers apply.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tiering: Tiering,
    /// Units that a tenant which used any is charged for at least in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_quantity: Option<Decimal>,
    /// What one container costs at most in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cap: Option<Decimal>,
    /// The contract's tax class; `standard` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_class: Option<String>,
}

impl PriceSpec {
    /// One price for every unit, in the meter's usual unit.
    pub const fn flat(meter: Meter, unit_price: Decimal) -> Self {
        Self {
            meter,
            unit_price: Some(unit_price),
            unit: None,
            policy: None,
            allowance: None,
            tiers: Vec::new(),
            tiering: Tiering::Graduated,
            minimum_quantity: None,
            monthly_cap: None,
            tax_class: None,
        }
    }

    /// What the price is for.
    pub fn pricing_unit(&self) -> PricingUnit {
        self.unit.or_else(|| PricingUnit::of(self.meter).first().copied()).unwrap_or(PricingUnit::CoreSeconds)
    }
}

/// How the amount of a statement's line becomes one that can be paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// A half goes to the even neighbour.
    #[default]
    HalfEven,
    /// A half goes away from zero.
    HalfUp,
}

/// A version of the price book. Versions are never changed; a later one takes over at `effective_from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PriceBookSpec {
    /// ISO 4217 code, such as `EUR`; the same in every version.
    pub currency: String,
    /// A full hour of UTC, not before the present hour.
    pub effective_from: Timestamp,
    /// Prices; a meter without one costs nothing.
    pub prices: Vec<PriceSpec>,
    /// Also charge a tenant's use outside its containers; it is shown at amount 0 otherwise.
    #[serde(default)]
    pub price_unattributed: bool,
    /// How the lines of a statement are rounded: by the version in force at the end of its period.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rounding: Rounding,
}

/// A version of the price book as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PriceBookView {
    /// Id.
    pub id: PriceBookId,
    /// What it says.
    pub book: PriceBookSpec,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a contract says about one SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SkuTerms {
    /// The SKU: a meter, or `cpu` or `memory` where the price book's policy is `max` or `blend`.
    pub sku: String,
    /// Percent off every price of the SKU, in place of the contract's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<Decimal>,
    /// Price of a unit in place of the book's, in every tier but the free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Decimal>,
    /// Units, in the book's, that are free in each period, after the book's allowance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_quantity: Option<Decimal>,
}

/// Money that a tenant has to its credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreditSpec {
    /// What it is called on statements; once in a contract.
    pub name: String,
    /// How much, in the price book's currency.
    pub amount: Decimal,
    /// Periods that begin before this moment may use it; without one it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What one tenant has agreed: laid over the price book in `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContractSpec {
    /// The tenant.
    pub tenant: TenantId,
    /// First hour.
    pub from: Timestamp,
    /// The hour after the last; `null` for no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Percent off every price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<Decimal>,
    /// What differs for single SKUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<SkuTerms>,
    /// Credits. What expires first is used first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credits: Vec<CreditSpec>,
    /// Percent of tax by tax class; a class that is not here is not taxed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taxes: BTreeMap<String, Decimal>,
    /// Days after its issue in which a statement is to be paid; the agent's setting when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_days: Option<u32>,
}

/// A contract as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractView {
    /// Id.
    pub id: ContractId,
    /// What it says.
    pub contract: ContractSpec,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Asks to give a contract an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContractEnd {
    /// The hour after its last; not before the present one.
    pub to: Timestamp,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_price_is_written_as_it_always_was() {
        let text = r#"{"meter":"cpu_used","unit_price":"0.5"}"#;
        let price: PriceSpec = serde_json::from_str(text).expect("reads");
        assert_eq!(price, PriceSpec::flat(Meter::CpuUsed, "0.5".parse().expect("a decimal")));
        assert_eq!(serde_json::to_string(&price).expect("writes"), text);
    }

    #[test]
    fn a_policy_is_a_word_or_a_blend() {
        let blend = r#"{"blend":{"used":"0.3","reserved":"0.7"}}"#;
        for text in [r#""max""#, blend] {
            let policy: Policy = serde_json::from_str(text).expect("reads");
            assert_eq!(serde_json::to_string(&policy).expect("writes"), text);
        }
        assert!(serde_json::from_str::<Policy>(r#""average""#).is_err());
    }

    #[test]
    fn every_meter_has_a_unit() {
        for meter in Meter::ALL {
            assert!(PricingUnit::of(meter).iter().any(|unit| unit.as_str() == meter.pricing_unit()));
        }
    }
}
