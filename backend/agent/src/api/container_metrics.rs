//! `/metrics/containers`: containers' counters in the text format of Prometheus, in cAdvisor's names,
//! so that the dashboards made for those work. A counter that this host does not have is left out.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::containers::ContainerRecord;
use crate::metering::{Look, Measured};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use wharf_network::Direction;
use wharf_shared::id::ContainerId;
use wharf_shared::permission::Permission;

use super::extract::Caller;
use super::metrics::TEXT;
use crate::app::App;
use crate::error::{Result, ServiceError};

/// One series: cAdvisor's name, its type, its counter, and ten to this power of the counter's unit
/// make one of the series' unit.
type Series = (&'static str, &'static str, fn(&Look) -> Measured, u32);

const SERIES: [Series; 20] = [
    ("container_cpu_usage_seconds_total", "counter", |c| c.reading.counters.cpu_usage_ns, 9),
    ("container_cpu_user_seconds_total", "counter", |c| c.reading.counters.cpu_user_ns, 9),
    ("container_cpu_system_seconds_total", "counter", |c| c.reading.counters.cpu_system_ns, 9),
    ("container_cpu_cfs_periods_total", "counter", |c| c.reading.counters.cpu_periods, 0),
    ("container_cpu_cfs_throttled_periods_total", "counter", |c| c.reading.counters.cpu_throttled_periods, 0),
    ("container_cpu_cfs_throttled_seconds_total", "counter", |c| c.reading.counters.cpu_throttled_ns, 9),
    ("container_memory_usage_bytes", "gauge", |c| c.reading.counters.memory_current_bytes, 0),
    ("container_memory_working_set_bytes", "gauge", |c| c.reading.counters.memory_working_set_bytes, 0),
    ("container_memory_max_usage_bytes", "gauge", |c| c.reading.counters.memory_peak_bytes, 0),
    ("container_memory_swap", "gauge", |c| c.reading.counters.memory_swap_bytes, 0),
    ("container_oom_events_total", "counter", |c| c.reading.counters.oom_kills, 0),
    ("container_processes", "gauge", |c| c.reading.counters.pids_current, 0),
    ("container_fs_reads_bytes_total", "counter", |c| c.reading.counters.io_read_bytes, 0),
    ("container_fs_writes_bytes_total", "counter", |c| c.reading.counters.io_write_bytes, 0),
    ("container_fs_reads_total", "counter", |c| c.reading.counters.io_reads, 0),
    ("container_fs_writes_total", "counter", |c| c.reading.counters.io_writes, 0),
    ("container_network_receive_bytes_total", "counter", |c| c.total(Direction::In, |count| count.bytes), 0),
    (
        "container_network_transmit_bytes_total",
        "counter",
        |c| c.total(Direction::Out, |count| count.bytes),
        0,
    ),
    (
        "container_network_receive_packets_total",
        "counter",
        |c| c.total(Direction::In, |count| count.packets),
        0,
    ),
    (
        "container_network_transmit_packets_total",
        "counter",
        |c| c.total(Direction::Out, |count| count.packets),
        0,
    ),
];

/// Shows every running container's counters to those who may see the host.
pub(super) async fn show(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Result<impl IntoResponse> {
    ctx.require(Permission::HostRead)?;
    let rows: HashMap<ContainerId, Arc<ContainerRecord>> =
        app.containers.seen().into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut text = String::new();
    write(&mut text, &app.metering.readings(), &rows)
        .map_err(|error| ServiceError::internal("metrics could not be written", error))?;
    Ok(([(CONTENT_TYPE, TEXT)], text))
}

fn write(
    text: &mut String,
    readings: &[(ContainerId, Look)],
    rows: &HashMap<ContainerId, Arc<ContainerRecord>>,
) -> std::fmt::Result {
    for (name, kind, counter, exponent) in SERIES {
        writeln!(text, "# TYPE {name} {kind}")?;
        for (id, look) in readings {
            let (Some(row), Measured::Value(value)) = (rows.get(id), counter(look)) else {
                continue;
            };
            let labels = format!(
                "id=\"{id}\",name=\"{}\",image=\"{}\",tenant=\"{}\"",
                escaped(&row.name),
                escaped(&row.spec.image),
                escaped(&row.tenant_name)
            );
            writeln!(text, "{name}{{{labels}}} {}", decimal(value, exponent))?;
        }
    }
    Ok(())
}

/// As the text format wants it in a label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// An integer divided by ten to a power, exact.
fn decimal(value: u64, exponent: u32) -> String {
    if exponent == 0 {
        return value.to_string();
    }
    let unit = 10_u64.pow(exponent);
    let width = usize::try_from(exponent).unwrap_or(0);
    format!("{}.{:0width$}", value / unit, value % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(decimal(1_500_000_007, 9), "1.500000007");
        assert_eq!(decimal(7, 0), "7");
    }

    #[test]
    fn a_label_cannot_end_its_own_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
