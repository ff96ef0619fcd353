//! `wharf stats`: what containers use, once a second.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use wharf_shared::container::ContainerView;
use wharf_shared::id::ContainerId;
use wharf_shared::live::{MetricsPoint, Topic, TopicItem};
use wharf_shared::time::SECOND_US;
use wharf_shared::usage::Measured;

use super::Shell;
use crate::output::{self, Table};
use crate::quantity::{show_bytes, show_cpu};
use crate::resume::Resume;
use crate::{clock, live, terminal};

/// A container that has not been heard of for so long is no longer shown.
const SILENCE_US: i64 = 5 * SECOND_US;

/// `wharf stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// Print once and end.
    #[arg(long)]
    no_stream: bool,
    /// Show what they suffer under their limits and beside others, in all since their start.
    #[arg(long)]
    strain: bool,
    /// Name or id of the only container to show.
    container: Option<String>,
}

/// Shows the numbers.
pub(crate) async fn stats(shell: &Shell, arguments: StatsArguments) -> Result<()> {
    let client = shell.client()?;
    let views: Vec<ContainerView> = match &arguments.container {
        Some(name) => vec![client.get(&["containers", name], &[]).await?],
        None => client.list(&["containers"], &[]).await?,
    };
    let table = if arguments.strain { strain_table } else { table };
    let only = arguments.container.as_ref().and(views.first()).map(|view| view.id.clone());
    let live = views.iter().filter(|view| view.state.is_live()).count();
    if live == 0 && (arguments.no_stream || only.is_some()) {
        return shell.output.list::<MetricsPoint>(&[], |points| table(points, &BTreeMap::new()));
    }
    let names: BTreeMap<_, _> = views.into_iter().map(|view| (view.id, view.name)).collect();
    let mut latest: BTreeMap<ContainerId, MetricsPoint> = BTreeMap::new();
    let mut newest = clock::now();
    // Metrics have no history, so there is no cursor to go on from.
    let topic = |()| Topic::Metrics { container: only.clone() };
    live::follow(&client, Resume::at(()), topic, |_, item| {
        let TopicItem::Metrics(point) = item else { return Ok(true) };
        if shell.output.json && !arguments.no_stream {
            shell.output.item(&point, |_| String::new())?;
            return Ok(true);
        }
        // A second is complete when the next one begins, or when everybody was heard.
        let is_next = point.at.0 - newest.0 >= SECOND_US / 2;
        if is_next && !latest.is_empty() && !arguments.no_stream {
            draw(&table(&latest.values().cloned().collect::<Vec<_>>(), &names))?;
        }
        if is_next || latest.is_empty() {
            newest = point.at;
        }
        latest.retain(|_, known| newest.0 - known.at.0 < SILENCE_US);
        latest.insert(point.container.clone(), point);
        if arguments.no_stream && latest.len() >= live {
            let points: Vec<_> = latest.values().cloned().collect();
            shell.output.list(&points, |points| table(points, &names))?;
            return Ok(false);
        }
        Ok(true)
    })
    .await
}

fn draw(table: &Table) -> Result<()> {
    let text = table.render();
    // On a terminal: from the top, and clear what the last picture had more.
    let picture = if terminal::size().is_some() { format!("\x1b[H\x1b[2J{text}") } else { text };
    output::write_out(picture.as_bytes())
}

fn table(points: &[MetricsPoint], names: &BTreeMap<ContainerId, String>) -> Table {
    let mut table = Table::new(&[
        "CONTAINER ID",
        "NAME",
        "CPU",
        "MEMORY",
        "LIMIT",
        "NET IN/s",
        "NET OUT/s",
        "READ/s",
        "WRITE/s",
        "PIDS",
        "COST/HOUR",
    ]);
    for point in points {
        table.row([
            point.container.short().to_owned(),
            names.get(&point.container).cloned().unwrap_or_default(),
            show(point.cpu_millis, show_cpu),
            show(point.memory_working_set_bytes, show_bytes),
            point.memory_limit_bytes.map_or_else(|| "none".to_owned(), show_bytes),
            show(point.network_receive_bytes_per_s, show_bytes),
            show(point.network_transmit_bytes_per_s, show_bytes),
            show(point.io_read_bytes_per_s, show_bytes),
            show(point.io_write_bytes_per_s, show_bytes),
            show(point.pids, |pids| pids.to_string()),
            format!("{} {}", point.cost_per_hour, point.currency),
        ]);
    }
    table
}

fn strain_table(points: &[MetricsPoint], names: &BTreeMap<ContainerId, String>) -> Table {
    let mut table = Table::new(&[
        "CONTAINER ID",
        "NAME",
        "THROTTLED",
        "OOM KILLS",
        "MEMORY HIGH",
        "MEMORY MAX",
        "CPU WAIT",
        "MEMORY WAIT",
        "I/O WAIT",
    ]);
    let times = |measured| show_here(measured, |times| times.to_string());
    let time = |measured| show_here(measured, |us| format!("{}.{:03}s", us / 1_000_000, us / 1_000 % 1_000));
    for point in points {
        let Some(strain) = &point.strain else { continue };
        table.row([
            point.container.short().to_owned(),
            names.get(&point.container).cloned().unwrap_or_default(),
            time(strain.cpu_throttled_us),
            times(strain.oom_kills),
            times(strain.memory_high_events),
            times(strain.memory_max_events),
            time(strain.cpu_pressure_us),
            time(strain.memory_pressure_us),
            time(strain.io_pressure_us),
        ]);
    }
    table
}

/// As [`show`], of what only some kernels count.
fn show_here(measured: Measured, value: impl FnOnce(u64) -> String) -> String {
    if measured == Measured::NotMeasurable { "not here".to_owned() } else { show(measured, value) }
}

/// A number, or why there is none: never a 0 in its place.
fn show(measured: Measured, value: impl FnOnce(u64) -> String) -> String {
    match measured {
        Measured::Value(number) => value(number),
        Measured::NotMeasurable => "n/a".to_owned(),
        Measured::Unreadable(errno) => format!("error {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_measured_is_never_shown_as_0() {
        assert_eq!(show(Measured::Value(0), show_bytes), "0 B");
        assert_eq!(show(Measured::NotMeasurable, show_bytes), "n/a");
        assert_eq!(show(Measured::Unreadable(5), show_bytes), "error 5");
        assert_eq!(show_here(Measured::NotMeasurable, show_bytes), "not here");
        assert_eq!(show_here(Measured::Value(0), show_bytes), "0 B");
    }
}
