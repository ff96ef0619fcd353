//! How charges are called: services, meters, descriptions.

use std::borrow::Cow;

use wharf_shared::usage::{Meter, Quality};

use crate::price::Tier;
use crate::rating::{Charge, RatedRow, UsageCharge};

/// What a row is for, for people.
pub(crate) fn description(row: &RatedRow) -> Cow<'static, str> {
    let charge = match &row.charge {
        Charge::Usage(charge) => charge,
        Charge::Credit { name, .. } => return format!("Credit {name}").into(),
        Charge::Tax { class, rate_percent, .. } => return format!("Tax {class} {rate_percent} %").into(),
        Charge::Adjustment { .. } => return "Rounding of the statement's lines".into(),
    };
    let UsageCharge { usage, tier, .. } = charge.as_ref();
    let of = match (tier, &usage.container) {
        (Tier::Minimum, _) => ", up to the least of a period",
        (_, Some(_)) => "",
        (_, None) => " outside containers",
    };
    let how = match usage.quality {
        Quality::Measured => "",
        Quality::Partial => " (readings are missing)",
        Quality::NotMeasurable => " (not measurable here)",
    };
    match (of, how) {
        ("", "") => usage.meter.title().into(),
        _ => format!("{}{of}{how}", usage.meter.title()).into(),
    }
}

/// A FOCUS service; one name has one category.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) category: &'static str,
    pub(crate) subcategory: &'static str,
}

/// Of what is no single meter's: taxes, credits, roundings.
pub(crate) const WHOLE: Service =
    Service { name: "Container Host", category: "Compute", subcategory: "Containers" };

pub(crate) const fn service(meter: Meter) -> Service {
    match meter {
        Meter::BlockRead | Meter::BlockWrite => {
            Service { name: "Container Storage", category: "Storage", subcategory: "Block Storage" }
        }
        _ if meter.is_network() => {
            Service { name: "Container Network", category: "Networking", subcategory: "Network Connectivity" }
        }
        _ => WHOLE,
    }
}
