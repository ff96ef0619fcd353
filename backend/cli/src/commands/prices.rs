//! Price books.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use wharf_shared::billing::{PriceBookSpec, PriceBookView, PriceSpec, Rounding};
use wharf_shared::statement::{SimulateSpec, Simulation};
use wharf_shared::time::Timestamp;
use wharf_shared::usage::Meter;

use super::Shell;
use crate::client::read;
use crate::clock;
use crate::output::{self, Table};

/// Every tenant's month is rated twice while the answer is waited for.
const SIMULATE_TIMEOUT: Duration = Duration::from_mins(30);

/// `wharf price`.
#[derive(Debug, Subcommand)]
pub(crate) enum PriceCommand {
    /// List the versions of the price book.
    #[command(visible_alias = "ls")]
    List,
    /// Make a new version of the price book.
    Set(SetArguments),
    /// Show what a price book would have changed in a month, tenant by tenant. Nothing is kept.
    Simulate {
        /// The price book as a JSON file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The month, such as 2026-01.
        #[arg(long, value_name = "MONTH")]
        period: String,
    },
}

/// `wharf price set`.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// The new version as a JSON file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["currency", "from", "prices"])]
    file: Option<PathBuf>,
    /// ISO 4217 code, such as EUR.
    #[arg(long, value_name = "CODE", required_unless_present = "file")]
    currency: Option<String>,
    /// The hour it takes over at; the present one when absent.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Also charge what a tenant used outside its containers.
    #[arg(long)]
    price_unattributed: bool,
    /// Prices of a core-second, a GB-second or a GB: `cpu_used=0.00001`.
    #[arg(value_name = "METER=PRICE", value_parser = price_of)]
    prices: Vec<PriceSpec>,
}

fn price_of(text: &str) -> Result<PriceSpec, String> {
    let (meter, price) = text.split_once('=').ok_or("write METER=PRICE")?;
    let known = || Meter::ALL.map(Meter::as_str).join(", ");
    let meter =
        Meter::from_name(meter).ok_or_else(|| format!("{meter:?} is no meter; there are {}", known()))?;
    Ok(PriceSpec::flat(meter, price.parse().map_err(|why| format!("{price:?} is {why}"))?))
}

/// Does one of these.
pub(crate) async fn price(shell: &Shell, command: PriceCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        PriceCommand::List => {
            let views: Vec<PriceBookView> = client.list(&["billing", "price-books"], &[]).await?;
            shell.output.list(&views, table)
        }
        PriceCommand::Set(arguments) => {
            let spec = spec(arguments, clock::now())?;
            let view: PriceBookView = client.post(&["billing", "price-books"], &[], &spec).await?;
            shell.output.outcome(&view, view.id.as_str())
        }
        PriceCommand::Simulate { file, period } => {
            let spec = SimulateSpec { book: read_book(&file)?, period };
            let request = client.request(Method::POST, &["billing", "price-books", "simulate"]);
            let answer = client.send(request.json(&spec).timeout(SIMULATE_TIMEOUT)).await?;
            let found: Simulation = read(answer).await?;
            if shell.output.json {
                return output::document(&found);
            }
            output::write_out(changes(&found).render().as_bytes())
        }
    }
}

fn read_book(path: &Path) -> Result<PriceBookSpec> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
}

fn spec(arguments: SetArguments, now: Timestamp) -> Result<PriceBookSpec> {
    if let Some(path) = arguments.file {
        return read_book(&path);
    }
    if arguments.prices.is_empty() {
        bail!("give at least one METER=PRICE");
    }
    Ok(PriceBookSpec {
        currency: arguments.currency.ok_or_else(|| anyhow!("give --currency"))?,
        effective_from: arguments.from.unwrap_or_else(|| now.hour_start()),
        prices: arguments.prices,
        price_unattributed: arguments.price_unattributed,
        rounding: Rounding::default(),
    })
}

fn table(views: &[PriceBookView]) -> Table {
    let mut table = Table::new(&["EFFECTIVE FROM", "METER", "ABOVE", "PRICE", "CURRENCY", "PER", "ID"]);
    for view in views {
        for price in &view.book.prices {
            let one = price.unit_price.iter().map(|unit_price| (None, unit_price));
            let tiers = price.tiers.iter().map(|tier| (Some(&tier.from), &tier.unit_price));
            for (from, unit_price) in one.chain(tiers) {
                table.row([
                    view.book.effective_from.to_string(),
                    price.meter.as_str().to_owned(),
                    from.or(price.allowance.as_ref()).map(ToString::to_string).unwrap_or_default(),
                    unit_price.to_string(),
                    view.book.currency.clone(),
                    price.pricing_unit().as_str().to_owned(),
                    view.id.to_string(),
                ]);
            }
        }
    }
    table
}

fn changes(found: &Simulation) -> Table {
    let mut table = Table::new(&["TENANT", "NOW", "SIMULATED", "DIFFERENCE", "CURRENCY"]);
    let all = ("(all)", &found.current, &found.simulated, &found.difference);
    let each =
        found.tenants.iter().map(|of| (of.tenant_name.as_str(), &of.current, &of.simulated, &of.difference));
    for (name, now, then, difference) in each.chain([all]) {
        let currency = found.currency.clone();
        table.row([name.to_owned(), now.to_string(), then.to_string(), difference.to_string(), currency]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_meter_and_an_exact_decimal() {
        let price = price_of("cpu_used=0.0000123").expect("a price");
        assert_eq!(price, PriceSpec::flat(Meter::CpuUsed, "0.0000123".parse().expect("a decimal")));
        for bad in ["cpu_used", "cpu=1", "cpu_used=1e-5", "cpu_used="] {
            assert!(price_of(bad).is_err(), "{bad}");
        }
    }
}
