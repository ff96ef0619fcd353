//! What several containers use and cost together, added up once a second.

use wharf_shared::live::MetricsPoint;

use super::money::Costs;

/// Sums of one second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Total {
    /// Thousandths of a CPU.
    pub(crate) cpu_millis: u64,
    /// Memory in use without reclaimable cache.
    pub(crate) memory_bytes: u64,
    /// What an hour costs.
    pub(crate) costs: Costs,
}

impl Total {
    /// Adds one container's second; what cannot be measured adds nothing.
    pub(crate) fn add(&mut self, point: &MetricsPoint) {
        self.cpu_millis += point.cpu_millis.value().unwrap_or(0);
        self.memory_bytes += point.memory_working_set_bytes.value().unwrap_or(0);
        self.costs.add(&point.currency, &point.cost_per_hour);
    }
}
