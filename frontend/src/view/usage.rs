//! Usage rows, summed for the page.

use std::collections::BTreeMap;

use wharf_shared::id::ContainerId;
use wharf_shared::usage::{Meter, Quality, UsageRow};

use super::money::Sum;

/// One line: a tenant's container and meter, over the whole period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The tenant's name.
    pub(crate) tenant: String,
    /// Which container; what is outside of containers has none.
    pub(crate) container: Option<ContainerId>,
    /// The container's name. A later container may have the same.
    pub(crate) name: String,
    /// What was metered.
    pub(crate) meter: Meter,
    /// Exact sum of quantities in the meter's smallest unit.
    pub(crate) quantity: Sum,
    /// Whether it is whole.
    pub(crate) quality: Quality,
    /// Exact sum of amounts.
    pub(crate) amount: Sum,
    /// ISO 4217 code.
    pub(crate) currency: String,
}

/// Sums hours: one line for each tenant, container and meter, in this order.
pub(crate) fn lines(rows: &[UsageRow]) -> Vec<Line> {
    let mut lines: BTreeMap<_, Line> = BTreeMap::new();
    for row in rows {
        let key = (
            &row.tenant_name,
            row.container.is_none(),
            &row.container_name,
            &row.container,
            row.meter,
            &row.currency,
        );
        let line = lines.entry(key).or_insert_with(|| Line {
            tenant: row.tenant_name.clone(),
            container: row.container.clone(),
            name: row.container_name.clone(),
            meter: row.meter,
            quantity: Sum::default(),
            quality: row.quality,
            amount: Sum::default(),
            currency: row.currency.clone(),
        });
        line.quantity.add(&row.quantity);
        line.amount.add(&row.amount);
        line.quality = line.quality.and(row.quality);
    }
    lines.into_values().collect()
}

impl Line {
    /// Name and short id of its container; a container without a name of its own is called by its id.
    pub(crate) fn whose(&self) -> (&str, Option<&str>) {
        match &self.container {
            Some(id) => (&self.name, Some(id.short()).filter(|short| *short != self.name)),
            None => ("outside of containers", None),
        }
    }
}

/// Whose lines are partial, each once: `web 4e6e9e98ef78`.
pub(crate) fn partial(lines: &[Line]) -> Vec<String> {
    let mut partial: Vec<_> = lines
        .iter()
        .filter(|line| line.quality == Quality::Partial)
        .map(|line| match line.whose() {
            (name, Some(short)) => format!("{name} {short}"),
            (name, None) if line.container.is_none() => format!("{} {name}", line.tenant),
            (name, None) => name.to_owned(),
        })
        .collect();
    // Lines of the same container stand together.
    partial.dedup();
    partial
}

/// All amounts of one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Total {
    /// ISO 4217 code.
    pub(crate) currency: String,
    /// Exact sum.
    pub(crate) sum: Sum,
    /// The same by tenants' names.
    pub(crate) tenants: Vec<(String, Sum)>,
}

/// Amounts by currency, then by tenant.
pub(crate) fn totals(rows: &[UsageRow]) -> Vec<Total> {
    let mut totals: BTreeMap<&str, (Sum, BTreeMap<&str, Sum>)> = BTreeMap::new();
    for row in rows {
        let (sum, tenants) = totals.entry(&row.currency).or_default();
        sum.add(&row.amount);
        tenants.entry(&row.tenant_name).or_default().add(&row.amount);
    }
    let owned = |(name, sum): (&str, Sum)| (name.to_owned(), sum);
    totals
        .into_iter()
        .map(|(currency, (sum, tenants))| Total {
            currency: currency.to_owned(),
            sum,
            tenants: tenants.into_iter().map(owned).collect(),
        })
        .collect()
}

/// A quantity in the unit that prices are for: `0.012300 core-s`.
pub(crate) fn quantity(line: &Line) -> String {
    if line.quality == Quality::NotMeasurable {
        return super::quantity::NOT_MEASURABLE.to_owned();
    }
    format!("{} {}", number(line.meter, &line.quantity), unit(line.meter))
}

/// A quantity in the unit of [`unit`]. What is counted one by one has no places.
pub(crate) fn number(meter: Meter, quantity: &Sum) -> String {
    let exponent = meter.pricing_unit_exponent();
    quantity.shifted(exponent).show_apart(if exponent == 0 { 0 } else { 6 })
}

/// The unit as people write it.
pub(crate) fn unit(meter: Meter) -> &'static str {
    match meter.pricing_unit() {
        "Core-Seconds" => "core-s",
        "GB-Seconds" => "GB-s",
        "Container-Seconds" => "container-s",
        "Starts" => "starts",
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wharf_shared::time::{HOUR_US, Timestamp};

    pub(crate) fn row(hour: i64, meter: Meter, quantity: &str, amount: &str, quality: Quality) -> UsageRow {
        UsageRow {
            tenant: "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("an id"),
            tenant_name: "acme".to_owned(),
            container: Some("ab".repeat(32).parse().expect("an id")),
            container_name: "web".to_owned(),
            hour: Timestamp(hour * HOUR_US),
            meter,
            quantity: quantity.parse().expect("a decimal"),
            unit: meter.unit().to_owned(),
            quality,
            amount: amount.parse().expect("a decimal"),
            currency: "EUR".to_owned(),
        }
    }

    #[test]
    fn hours_are_summed_exactly_and_a_gap_makes_the_line_partial() {
        let rows = [
            row(0, Meter::CpuUsed, "1500000000", "0.1", Quality::Measured),
            row(1, Meter::CpuUsed, "500000000", "0.2", Quality::Partial),
            row(1, Meter::BlockRead, "0", "0", Quality::NotMeasurable),
        ];
        let lines = lines(&rows);
        let shown: Vec<_> = lines.iter().map(|line| (quantity(line), line.quality)).collect();
        assert_eq!(
            shown,
            [
                ("2.000000 core-s".to_owned(), Quality::Partial),
                ("not measurable here".to_owned(), Quality::NotMeasurable)
            ]
        );
        assert_eq!(partial(&lines), ["web abababababab"]);
        let totals = totals(&rows);
        assert_eq!(totals.iter().map(|total| total.sum.show(2)).collect::<Vec<_>>(), ["0.30"]);
    }
    #[test]
    fn a_little_is_not_shown_as_nothing() {
        let shown = |meter, number| {
            lines(&[row(0, meter, number, "0", Quality::Measured)]).iter().map(quantity).collect::<String>()
        };
        assert_eq!(shown(Meter::NetworkInternetIn, "126"), "<\u{202f}0.000001 GB");
        assert_eq!(shown(Meter::NetworkInternetIn, "0"), "0 GB");
        assert_eq!(shown(Meter::CpuUsed, "2951000"), "0.002951 core-s");
        assert_eq!(shown(Meter::ContainerTime, "366470000"), "0.366470 container-s");
        assert_eq!(shown(Meter::Starts, "12"), "12 starts");
    }

    #[test]
    fn containers_of_the_same_name_are_told_apart() {
        let mut later = row(1, Meter::CpuUsed, "1", "0", Quality::Measured);
        later.container = Some("cd".repeat(32).parse().expect("an id"));
        let mut nameless = later.clone();
        nameless.container_name = "cdcdcdcdcdcd".to_owned();
        let lines = lines(&[row(0, Meter::CpuUsed, "1", "0", Quality::Measured), later, nameless]);
        let whose: Vec<_> = lines.iter().map(Line::whose).collect();
        assert_eq!(
            whose,
            [("cdcdcdcdcdcd", None), ("web", Some("abababababab")), ("web", Some("cdcdcdcdcdcd"))]
        );
    }
}
