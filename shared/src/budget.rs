//! Budgets: what a tenant may spend in a month, and what happens at which part of it.
//!
//! A budget counts what the tenant's usage costs in a calendar month of UTC, before credits and tax: what its
//! statement of the month adds up to so far. A threshold that was reached stays reached until the month ends
//! or the budget is set anew.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::id::TenantId;
use crate::time::Timestamp;

/// What the agent does at a threshold. The event and the entry of the audit trail are made in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BudgetAction {
    /// Tell the budget's `webhook_url`.
    Webhook,
    /// Refuse to start containers; what runs goes on.
    RefuseStarts,
    /// Pause every container that runs, and refuse starts. They go on when the budget is raised or the month
    /// ends.
    Freeze,
    /// Stop every container, and refuse starts. They stay stopped.
    Stop,
}

impl BudgetAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Webhook, Self::RefuseStarts, Self::Freeze, Self::Stop];

    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::RefuseStarts => "refuse_starts",
            Self::Freeze => "freeze",
            Self::Stop => "stop",
        }
    }

    /// The action of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// A part of the amount, and what happens when it is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BudgetThreshold {
    /// Per cent of the amount, 1 to 1,000; rising from one threshold to the next.
    pub percent: u32,
    /// What happens then, besides the event and the entry of the audit trail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<BudgetAction>,
}

/// What a tenant's budget shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// What may be spent in a calendar month of UTC; above 0.
    pub amount: Decimal,
    /// ISO 4217 code: that of the price books.
    pub currency: String,
    /// Rising, 1 to 20.
    pub thresholds: Vec<BudgetThreshold>,
    /// Where a threshold with the action `webhook` is told, as a `CloudEvent` in JSON. The agent asks this address,
    /// from where it stands: whoever sets it is trusted with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
}

/// What has become of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    /// The threshold has none.
    None,
    /// It is sent, again and again until it is taken.
    Queued,
    /// It was taken.
    Sent,
    /// The endpoint will not have it; it is not sent again.
    Refused,
}

impl NoticeState {
    const ALL: [Self; 4] = [Self::None, Self::Queued, Self::Sent, Self::Refused];

    /// The word for it, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Refused => "refused",
        }
    }

    /// The state of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A threshold that was reached in the present month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReachedThreshold {
    /// Which.
    pub percent: u32,
    /// When the agent saw it.
    pub at: Timestamp,
    /// What was spent then.
    pub spent: Decimal,
    /// What has become of its webhook.
    pub notice: NoticeState,
    /// Why the webhook was not taken, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_problem: Option<String>,
}

/// A budget as it is shown, with how it stands in the present month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BudgetView {
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// What it says.
    pub budget: BudgetSpec,
    /// When it was set.
    pub set_at: Timestamp,
    /// Begin of the present month.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// What was spent in it, by the readings that are stored: they are at most one interval of metering old.
    pub spent: Decimal,
    /// The same in per cent of the amount, with at most one digit after the point, cut.
    pub spent_percent: Decimal,
    /// What the tenant's containers cost in an hour as they run now.
    pub burn_per_hour: Decimal,
    /// What they can cost in an hour at most: CPU and memory up to their limits, or all of the host's where they
    /// have none, at the highest price of the book, and traffic and block I/O as now.
    pub burn_limit_per_hour: Decimal,
    /// What will have been spent at the month's end if it goes on as on average since it was first used this
    /// month.
    pub forecast: Decimal,
    /// The same if it goes on as now.
    pub forecast_at_burn: Decimal,
    /// By how much a threshold may be passed before its action holds: the burn limit for one interval of
    /// metering and two seconds.
    pub overshoot_limit: Decimal,
    /// Thresholds that were reached, in their order.
    pub reached: Vec<ReachedThreshold>,
    /// What holds now because of them.
    pub in_force: Vec<BudgetAction>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_on_the_wire_and_in_tables() {
        for action in BudgetAction::ALL {
            assert_eq!(serde_json::to_value(action).expect("JSON"), action.as_str());
            assert_eq!(BudgetAction::from_name(action.as_str()), Some(action));
        }
        for state in NoticeState::ALL {
            assert_eq!(serde_json::to_value(state).expect("JSON"), state.as_str());
            assert_eq!(NoticeState::from_name(state.as_str()), Some(state));
        }
    }

    #[test]
    fn a_budget_with_a_key_that_nobody_knows_is_refused() {
        let text = r#"{"amount":"5","currency":"EUR","thresholds":[],"per":"day"}"#;
        assert!(serde_json::from_str::<BudgetSpec>(text).is_err());
    }
}
