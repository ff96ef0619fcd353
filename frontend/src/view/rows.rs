//! Filtering and ordering the container list.

use std::cmp::Ordering;

use wharf_shared::container::ContainerView;
use wharf_shared::id::ContainerId;
use wharf_shared::live::MetricsPoint;
use wharf_shared::usage::Measured;

use super::money::Sum;

/// What the list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// State, the living first.
    State,
    /// Name.
    Name,
    /// Tenant's name.
    Tenant,
    /// Image.
    Image,
    /// CPU now.
    Cpu,
    /// Memory now.
    Memory,
    /// Cost per hour now.
    Cost,
}

impl Column {
    /// Whether the order changes from second to second; then the greatest come first.
    pub(crate) const fn is_live(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Cost)
    }
}

/// Whether every word of the search is found: free words in name, image, tenant, id and state;
/// `state:`, `tenant:`, `image:` and `label:` only there.
pub(crate) fn matches(container: &ContainerView, search: &str) -> bool {
    search.split_whitespace().all(|word| {
        let word = word.to_lowercase();
        let has = |text: &str, wanted: &str| text.to_lowercase().contains(wanted);
        match word.split_once(':') {
            Some(("state", wanted)) => has(container.state.as_str(), wanted),
            Some(("tenant", wanted)) => has(&container.tenant_name, wanted),
            Some(("image", wanted)) => has(&container.spec.image, wanted),
            Some(("label", wanted)) => {
                container.spec.labels.iter().any(|(key, value)| has(&format!("{key}={value}"), wanted))
            }
            _ => {
                has(&container.name, &word)
                    || has(&container.spec.image, &word)
                    || has(&container.tenant_name, &word)
                    || has(container.state.as_str(), &word)
                    || container.id.as_str().starts_with(&word)
            }
        }
    })
}

/// What a container is ordered by, read once and not at each comparison.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    key: Key,
    name: String,
    /// Which container.
    pub(crate) id: ContainerId,
}

#[derive(Debug, Clone)]
enum Key {
    Name,
    Rank(u8),
    Text(String),
    Number(Option<u64>),
    Cost(Option<Sum>),
}

impl Entry {
    /// The container's place by a column, with its latest second.
    pub(crate) fn new(container: &ContainerView, point: Option<&MetricsPoint>, column: Column) -> Self {
        let number =
            |read: fn(&MetricsPoint) -> Measured| Key::Number(point.and_then(|point| read(point).value()));
        let key = match column {
            Column::State => Key::Rank(rank(container)),
            Column::Name => Key::Name,
            Column::Tenant => Key::Text(container.tenant_name.clone()),
            Column::Image => Key::Text(container.spec.image.clone()),
            Column::Cpu => number(|point| point.cpu_millis),
            Column::Memory => number(|point| point.memory_working_set_bytes),
            Column::Cost => Key::Cost(point.map(|point| Sum::of([&point.cost_per_hour]))),
        };
        Self { key, name: container.name.clone(), id: container.id.clone() }
    }
}

/// Orders by a column, then by name and id, so that the order never flickers.
pub(crate) fn compare(left: &Entry, right: &Entry, descending: bool) -> Ordering {
    let names = || left.name.cmp(&right.name).then_with(|| left.id.cmp(&right.id));
    let by = match (&left.key, &right.key) {
        (Key::Rank(left), Key::Rank(right)) => left.cmp(right),
        (Key::Text(left), Key::Text(right)) => left.cmp(right),
        (Key::Number(left), Key::Number(right)) => left.cmp(right),
        (Key::Cost(Some(left)), Key::Cost(Some(right))) => left.compare(right),
        (Key::Cost(left), Key::Cost(right)) => left.is_some().cmp(&right.is_some()),
        // By name, which is turned as a whole; entries of two columns are never compared.
        _ => return if descending { names().reverse() } else { names() },
    };
    if descending { by.reverse() } else { by }.then_with(names)
}

fn rank(container: &ContainerView) -> u8 {
    use super::state::{Tone, attention, look};
    if attention(container).is_some() {
        return 0;
    }
    match look(container).1 {
        Tone::Bad => 0,
        Tone::Warn => 1,
        Tone::Info => 2,
        Tone::Ok => 3,
        Tone::Muted => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::container;
    use super::*;
    use wharf_shared::container::ContainerState as State;

    #[test]
    fn words_and_prefixes_narrow_the_list() {
        let web = container("web-1", State::Running);
        for good in ["", "web", "WEB busybox", "state:run tenant:acme", "abab", "image:1.36"] {
            assert!(matches(&web, good), "{good}");
        }
        for bad in ["api", "state:exited", "tenant:web", "label:x", "web api"] {
            assert!(!matches(&web, bad), "{bad}");
        }
    }

    #[test]
    fn what_needs_attention_comes_first_and_names_break_ties() {
        let (a, b) = (container("a", State::Running), container("b", State::Failed));
        let order = |left, right, column, descending| {
            compare(&Entry::new(left, None, column), &Entry::new(right, None, column), descending)
        };
        assert_eq!(order(&b, &a, Column::State, false), Ordering::Less);
        assert_eq!(order(&a, &b, Column::Cpu, true), Ordering::Less);
        assert_eq!(order(&a, &b, Column::Cost, true), Ordering::Less);
        assert_eq!(order(&a, &b, Column::Name, true), Ordering::Greater);
    }
}
