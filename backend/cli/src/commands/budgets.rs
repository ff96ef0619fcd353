//! `wharf budget`: what tenants may spend in a month, how far they are, and what follows.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use reqwest::Method;
use wharf_shared::billing::PriceBookView;
use wharf_shared::budget::{
    BudgetAction, BudgetSpec, BudgetThreshold, BudgetView, NoticeState, ReachedThreshold,
};
use wharf_shared::decimal::Decimal;

use super::Shell;
use crate::client::read;
use crate::output::{self, Table, line, visible, write_out};

/// Digits after the point with which amounts are shown.
const DIGITS: usize = 6;

/// `wharf budget`.
#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Give a tenant a budget, in place of the one it has; what the old one has paused goes on unless the new one
    /// is spent too.
    Set {
        /// What may be spent in a calendar month of UTC.
        #[arg(long, value_name = "AMOUNT")]
        amount: Decimal,
        /// ISO 4217 code; that of the price books unless told otherwise.
        #[arg(long, value_name = "CODE")]
        currency: Option<String>,
        /// A threshold in per cent and what happens there besides an event: webhook, refuse-starts, freeze (pause
        /// what runs) or stop, such as 90:webhook,refuse-starts. May be given several times, rising.
        #[arg(long = "at", value_name = "PERCENT[:ACTION,…]", value_parser = threshold,
            default_values = ["50", "75", "90", "100"])]
        thresholds: Vec<BudgetThreshold>,
        /// Where webhooks are sent, as `CloudEvents`.
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
        /// The tenant's name.
        tenant: String,
    },
    /// Show a tenant's budget.
    Show {
        /// The tenant's name.
        tenant: String,
    },
    /// List budgets.
    #[command(visible_alias = "ls")]
    List,
    /// Take a tenant's budget away; what it has paused goes on.
    #[command(visible_alias = "rm")]
    Remove {
        /// The tenant's name.
        tenant: String,
    },
}

/// Does one of these.
pub(crate) async fn budget(shell: &Shell, command: BudgetCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        BudgetCommand::Set { amount, currency, thresholds, webhook, tenant } => {
            let currency = if let Some(currency) = currency {
                currency
            } else {
                let books: Vec<PriceBookView> = client.list(&["billing", "price-books"], &[]).await?;
                let book = books.into_iter().next();
                book.context("there is no price book; set one with `wharf price set` first")?.book.currency
            };
            let spec = BudgetSpec { amount, currency, thresholds, webhook_url: webhook };
            let request = client.request(Method::PUT, &["budgets", &tenant]).json(&spec);
            let view: BudgetView = read(client.send(request).await?).await?;
            shell.output.outcome(&view, &view.tenant_name)
        }
        BudgetCommand::Show { tenant } => {
            let view: BudgetView = client.get(&["budgets", &tenant], &[]).await?;
            if shell.output.json {
                return output::document(&view);
            }
            for text in words(&view) {
                line(&visible(&text))?;
            }
            write_out(format!("\n{}", thresholds_of(&view).render()).as_bytes())
        }
        BudgetCommand::List => {
            let views: Vec<BudgetView> = client.list(&["budgets"], &[]).await?;
            shell.output.list(&views, table)
        }
        BudgetCommand::Remove { tenant } => {
            client.act(client.request(Method::DELETE, &["budgets", &tenant])).await?;
            shell.output.outcome(&tenant, &tenant)
        }
    }
}

fn threshold(text: &str) -> Result<BudgetThreshold, String> {
    let (percent, actions) = text.split_once(':').map_or((text, None), |(left, right)| (left, Some(right)));
    let percent = percent.trim_end_matches('%').parse();
    let percent = percent.map_err(|error| format!("a threshold begins with per cent: {error}"))?;
    let action = |word: &str| {
        BudgetAction::from_name(&word.trim().replace('-', "_")).ok_or_else(|| {
            format!("{word:?} is no action; there are webhook, refuse-starts, freeze and stop")
        })
    };
    let actions = actions.map(|words| words.split(',').map(action).collect()).transpose()?;
    Ok(BudgetThreshold { percent, actions: actions.unwrap_or_default() })
}

/// A number without the digits that only an export needs.
fn short(number: &Decimal) -> String {
    let text = number.as_str();
    match text.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.get(..DIGITS).unwrap_or(fraction).trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => text.to_owned(),
    }
}

fn action_words(actions: &[BudgetAction]) -> String {
    let words = actions.iter().map(|action| action.as_str().replace('_', "-"));
    words.collect::<Vec<_>>().join(", ")
}

fn words(view: &BudgetView) -> Vec<String> {
    let currency = &view.budget.currency;
    let money = |amount: &Decimal| format!("{} {currency}", short(amount));
    let mut lines = vec![
        format!("{}: {} a month, {} to {}", view.tenant_name, money(&view.budget.amount), view.from, view.to),
        format!("spent {} ({} %)", money(&view.spent), view.spent_percent),
        format!(
            "an hour costs {} now and {} at most, so a threshold is passed by at most {}",
            money(&view.burn_per_hour),
            money(&view.burn_limit_per_hour),
            money(&view.overshoot_limit)
        ),
        format!(
            "at the month's end {} if it goes on as on average, {} as now",
            money(&view.forecast),
            money(&view.forecast_at_burn)
        ),
    ];
    if let Some(url) = &view.budget.webhook_url {
        lines.push(format!("webhooks go to {url}"));
    }
    if !view.in_force.is_empty() {
        lines.push(format!("in force: {}", action_words(&view.in_force)));
    }
    lines
}

fn thresholds_of(view: &BudgetView) -> Table {
    let mut table = Table::new(&["PERCENT", "ACTIONS", "REACHED", "SPENT THEN", "WEBHOOK"]);
    for threshold in &view.budget.thresholds {
        let reached = view.reached.iter().find(|reached| reached.percent == threshold.percent);
        table.row([
            threshold.percent.to_string(),
            action_words(&threshold.actions),
            reached.map(|reached| reached.at.to_string()).unwrap_or_default(),
            reached.map(|reached| short(&reached.spent)).unwrap_or_default(),
            reached.map(webhook).unwrap_or_default(),
        ]);
    }
    table
}

fn webhook(reached: &ReachedThreshold) -> String {
    match (reached.notice, &reached.notice_problem) {
        (NoticeState::None, _) => String::new(),
        (state, Some(problem)) => format!("{}: {problem}", state.as_str()),
        (state, None) => state.as_str().to_owned(),
    }
}

fn table(views: &[BudgetView]) -> Table {
    let mut table = Table::new(&[
        "TENANT",
        "AMOUNT",
        "SPENT",
        "%",
        "FORECAST",
        "PER HOUR",
        "OVERSHOOT AT MOST",
        "IN FORCE",
    ]);
    for view in views {
        table.row([
            view.tenant_name.clone(),
            format!("{} {}", view.budget.amount, view.budget.currency),
            short(&view.spent),
            view.spent_percent.to_string(),
            short(&view.forecast),
            short(&view.burn_per_hour),
            short(&view.overshoot_limit),
            action_words(&view.in_force),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_per_cent_and_perhaps_actions() {
        let read = |text: &str| threshold(text).map(|read| (read.percent, read.actions));
        assert_eq!(read("50"), Ok((50, vec![])));
        assert_eq!(
            read("90%:webhook,refuse-starts"),
            Ok((90, vec![BudgetAction::Webhook, BudgetAction::RefuseStarts]))
        );
        for bad in ["", "x", "50:", "50:explode", "-1", ":stop"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_are_shown_without_digits_that_nobody_reads() {
        let shown = |text: &str| short(&text.parse().expect("a decimal"));
        assert_eq!(
            ["5", "0.1234567899", "2.5000001", "0.000000001"].map(shown),
            ["5", "0.123456", "2.5", "0"]
        );
    }
}
