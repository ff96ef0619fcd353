//! Statements: what a tenant owes for a period, line by line, and how it came to be.
//!
//! ```text
//! open ─ period over ─► draft ─ issue ─► issued ─ pay ─► paid
//!                                          │ due date ─► overdue ─ pay ─► paid
//!                                          └ void ─► voided, by a credit note with a number of its own
//! ```

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::{ContainerId, ContractId, HostId, PriceBookId, TenantId};
use crate::time::Timestamp;
use crate::usage::{Meter, Quality};

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StatementStatus {
    /// Its period goes on; the amounts are those so far.
    Open,
    /// Its period is over; it has not been issued, and what comes late still changes it.
    Draft,
    /// It has a number and never changes again.
    Issued,
    /// It was paid.
    Paid,
    /// It was not paid in time.
    Overdue,
    /// A credit note has taken it back.
    Voided,
    /// What is stored of it is not what was issued: only its number, tenant and period are known.
    Damaged,
}

impl StatementStatus {
    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Draft => "draft",
            Self::Issued => "issued",
            Self::Paid => "paid",
            Self::Overdue => "overdue",
            Self::Voided => "voided",
            Self::Damaged => "damaged",
        }
    }
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// A statement.
    Statement,
    /// The reversal of a statement: every amount with the other sign.
    CreditNote,
}

impl StatementKind {
    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::CreditNote => "credit_note",
        }
    }

    /// The kind of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Statement, Self::CreditNote].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What a line charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LineCategory {
    /// Quantity × price.
    Usage,
    /// A credit that was used.
    Credit,
    /// Tax.
    Tax,
}

/// Rows with one price, together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatementLine {
    /// Its number, from 1.
    pub line: u32,
    /// What it charges.
    pub category: LineCategory,
    /// In words.
    pub description: String,
    /// The SKU; `null` for credits and tax.
    pub sku: Option<String>,
    /// Which price of the SKU: `standard`, `t0` (the allowance), `t1`, …, `minimum`.
    pub tier: Option<String>,
    /// `used`, `reserved`, `max` or `blend`; `none` if nothing is charged for it.
    pub policy: Option<String>,
    /// Why a unit with a price costs nothing: `free_quantity` or `cap`.
    pub relief: Option<String>,
    /// Whether it is the tenant's use outside its containers.
    pub is_unattributed: bool,
    /// Units, exact.
    pub quantity: Option<Decimal>,
    /// What a unit is.
    pub unit: Option<String>,
    /// What one costs by the price book.
    pub list_unit_price: Option<Decimal>,
    /// What one costs this tenant.
    pub unit_price: Option<Decimal>,
    /// Tax class; of a tax line, the one it is for.
    pub tax_class: Option<String>,
    /// Quantity × unit price, unrounded.
    pub exact_amount: Decimal,
    /// The same in whole smallest units of the currency.
    pub amount: Decimal,
    /// Whether every reading is there.
    pub quality: Quality,
    /// Hours of a container (or tenant) that readings are missing in.
    pub partial_rows: u64,
    /// Rated rows that it sums.
    pub rows: u64,
}

/// Where a host's ledger stood: `wharf ledger verify --head SEQ:HASH` proves that a later copy goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LedgerHead {
    /// Whose ledger.
    pub host: HostId,
    /// Number of its last record.
    pub seq: u64,
    /// The record's hash (BLAKE3), in hexadecimal digits.
    pub hash: String,
}

/// Usage of an earlier period that came after that was billed, and is billed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LateUsage {
    /// The number of the statement that had billed its period.
    pub statement: String,
    /// What was used.
    pub meter: Meter,
    /// How much of it is in the lines here, in the meter's unit; below zero if corrections took away more.
    pub quantity: Decimal,
    /// The meter's unit.
    pub unit: String,
}

/// A host that will never report again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndedHost {
    /// The host.
    pub host: HostId,
    /// Its last report: what it metered later is not known.
    pub reported_at: Timestamp,
    /// Why it was retired.
    pub reason: String,
}

/// A statement, or the credit note that takes one back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatementView {
    /// The number; `<tenant>.<month>` before it has one.
    pub id: String,
    /// What it is.
    pub kind: StatementKind,
    /// Where it stands.
    pub status: StatementStatus,
    /// Who asks for the money.
    pub provider: String,
    /// Who owes it.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// ISO 4217 code.
    pub currency: String,
    /// The price books that it was rated by.
    pub price_books: Vec<PriceBookId>,
    /// The contracts that it was rated by.
    pub contracts: Vec<ContractId>,
    /// What is charged.
    pub lines: Vec<StatementLine>,
    /// Sum of the lines that are no tax.
    pub net: Decimal,
    /// Sum of the lines that are tax.
    pub tax: Decimal,
    /// What is owed.
    pub total: Decimal,
    /// What rounding the lines added: the total less the exact sum of all rows.
    pub adjustment: Decimal,
    /// SHA-256 of every rated row, its quantities and prices: rating again gives the same, or something has
    /// changed since.
    pub evidence_hash: String,
    /// What in the lines belongs to earlier periods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateUsage>,
    /// Hosts that ended in its period and were retired: after their last reports nothing is billed of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_hosts: Vec<EndedHost>,
    /// The ledger of the host that issued it, as it stood then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_head: Option<LedgerHead>,
    /// Why it was issued although hours were not final; printed on it.
    pub override_reason: Option<String>,
    /// Of a credit note, the statement; of a voided statement, the credit note.
    pub refers_to: Option<String>,
    /// Why a statement was taken back.
    pub void_reason: Option<String>,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// Who issued it.
    pub issued_by: Option<String>,
    /// When it is to be paid.
    pub due_at: Option<Timestamp>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// SHA-256 of what was issued; `null` before.
    pub content_hash: Option<String>,
}

/// Asks to issue a draft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IssueSpec {
    /// Issue although hours are provisional or the time for late readings is not over, because …
    pub override_reason: Option<String>,
}

/// Asks to take an issued statement back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VoidSpec {
    /// Why; printed on the credit note.
    pub reason: String,
}

/// How a statement is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StatementFormat {
    /// An object.
    #[default]
    Json,
    /// A line each, for a spreadsheet.
    Csv,
    /// A page that prints well.
    Html,
}

/// A reading as evidence of a quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadingEvidence {
    /// Its number in the host's journal.
    pub seq: i64,
    /// Why it was taken.
    pub kind: String,
    /// Begin.
    pub t0: Timestamp,
    /// End.
    pub t1: Timestamp,
    /// Begin and end on the clock that neither stops nor jumps, in nanoseconds since boot.
    pub boot_ns: [u64; 2],
    /// Units of the meter since the series began; `null` for what was reserved.
    pub cum: Option<Decimal>,
    /// Units that this reading adds to the hour.
    pub delta: Decimal,
    /// The last value that the kernel gave.
    pub raw: Option<u64>,
    /// The kernel's file or object that it was read from, or how it follows from the limits.
    pub origin: String,
    /// Where it was read, as the journal has it: the control group and its id, the network interface.
    pub source: std::collections::BTreeMap<String, String>,
}

/// One rated row of a line, with the readings that its hour was counted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainedRow {
    /// Begin of the hour.
    pub hour: Timestamp,
    /// The container; `null` for the tenant's whole cgroup less its containers.
    pub container: Option<ContainerId>,
    /// The container's name at that time.
    pub container_name: String,
    /// What was metered.
    pub meter: Meter,
    /// How much, in the meter's unit; the part of the hour that this row is.
    pub metered_quantity: Decimal,
    /// The meter's unit.
    pub metered_unit: String,
    /// Units that are priced.
    pub quantity: Decimal,
    /// What they cost: quantity × unit price.
    pub amount: Decimal,
    /// Whether every reading is there.
    pub quality: Quality,
    /// What the kernel counted, in order; at most 100. Another host's are in that host's journal.
    pub readings: Vec<ReadingEvidence>,
    /// How many readings there are.
    #[serde(default)]
    pub readings_total: u64,
    /// What persons have put right in this hour.
    #[serde(default)]
    pub corrections: Vec<CorrectionEvidence>,
    /// What of another hour is in this one, because a statement had billed that when it came.
    #[serde(default)]
    pub late: Vec<LateEvidence>,
}

/// A correction as evidence of a quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CorrectionEvidence {
    /// Its number in the host's journal.
    pub seq: i64,
    /// Number of the reading that it corrects.
    pub refers_to: u64,
    /// Units that it adds to the hour; below zero if it takes away.
    pub delta: Decimal,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
}

/// Usage of a billed hour as evidence of a quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LateEvidence {
    /// The hour in which it was used.
    pub hour: Timestamp,
    /// The number of the statement that had billed that hour's period.
    pub statement: String,
    /// Units that it adds to this hour; below zero if it takes away.
    pub delta: Decimal,
    /// In whose journal it is.
    pub host: HostId,
    /// The first and the last number of the stretch of that journal in which it is.
    pub seqs: [i64; 2],
}

/// How a statement's line came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The line.
    pub line: StatementLine,
    /// The formula with its numbers put in.
    pub formula: String,
    /// Whether rating again now gives what the statement was made of.
    pub is_unchanged: bool,
    /// Its rows, by hour.
    pub rows: Vec<ExplainedRow>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// What a price book would change for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulatedTenant {
    /// The tenant.
    pub tenant: TenantId,
    /// Its name.
    pub tenant_name: String,
    /// What the period costs by the books that are in force, rounded, without credits and tax.
    pub current: Decimal,
    /// What it would cost.
    pub simulated: Decimal,
    /// The second less the first.
    pub difference: Decimal,
}

/// What a price book would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Simulation {
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// ISO 4217 code.
    pub currency: String,
    /// By tenant.
    pub tenants: Vec<SimulatedTenant>,
    /// Of all tenants.
    pub current: Decimal,
    /// Of all tenants.
    pub simulated: Decimal,
    /// The second less the first.
    pub difference: Decimal,
}

/// Asks what a price book would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SimulateSpec {
    /// The price book, taken as in force all through the period.
    pub book: crate::billing::PriceBookSpec,
    /// A month, such as `2026-01`.
    pub period: String,
}
