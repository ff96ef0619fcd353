//! Price books: what a unit costs from when on.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::PriceBookId;
use crate::time::Timestamp;
use crate::usage::Meter;

/// One price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// What is priced. CPU is priced per core-second, memory per GB-second, bytes per GB (10⁹ bytes).
    pub meter: Meter,
    /// Price of one unit, exact.
    pub unit_price: Decimal,
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
