//! Filtering and ordering the container list.

use std::cmp::Ordering;

use wharf_shared::container::ContainerView;
use wharf_shared::live::MetricsPoint;
use wharf_shared::usage::Measured;

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

/// One container with its latest second.
pub(crate) type Entry<'a> = (&'a ContainerView, Option<&'a MetricsPoint>);

/// Orders by a column, then by name and id, so that the order never flickers.
pub(crate) fn compare(left: Entry<'_>, right: Entry<'_>, column: Column, descending: bool) -> Ordering {
    let metric =
        |entry: Entry<'_>, read: fn(&MetricsPoint) -> Measured| entry.1.and_then(|point| read(point).value());
    let by = match column {
        Column::State => rank(left.0).cmp(&rank(right.0)),
        Column::Name => Ordering::Equal,
        Column::Tenant => left.0.tenant_name.cmp(&right.0.tenant_name),
        Column::Image => left.0.spec.image.cmp(&right.0.spec.image),
        Column::Cpu => metric(left, |point| point.cpu_millis).cmp(&metric(right, |point| point.cpu_millis)),
        Column::Memory => metric(left, |point| point.memory_working_set_bytes)
            .cmp(&metric(right, |point| point.memory_working_set_bytes)),
        Column::Cost => {
            let cost = |entry: Entry<'_>| entry.1.map(|point| super::money::Sum::of([&point.cost_per_hour]));
            match (cost(left), cost(right)) {
                (Some(left), Some(right)) => left.compare(&right),
                (left, right) => left.is_some().cmp(&right.is_some()),
            }
        }
    };
    let names = || left.0.name.cmp(&right.0.name).then_with(|| left.0.id.cmp(&right.0.id));
    if column == Column::Name {
        return if descending { names().reverse() } else { names() };
    }
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
        assert_eq!(compare((&b, None), (&a, None), Column::State, false), Ordering::Less);
        assert_eq!(compare((&a, None), (&b, None), Column::Cpu, true), Ordering::Less);
        assert_eq!(compare((&a, None), (&b, None), Column::Name, true), Ordering::Greater);
    }
}
