//! `wharf outbox`: what is sent to an endpoint outside, and what that will not have.

use anyhow::Result;
use clap::{Args, Subcommand};
use reqwest::Method;
use wharf_shared::outbox::{OutboxRetry, OutboxView};

use super::Shell;
use crate::client;
use crate::output::{Table, document, line, visible, write_out};

/// `wharf outbox`.
#[derive(Debug, Args)]
pub(crate) struct OutboxArguments {
    #[command(subcommand)]
    command: Option<OutboxCommand>,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Send the events again that the endpoint has refused.
    Retry,
}

/// Shows the outbox, or queues again what was refused.
pub(crate) async fn outbox(shell: &Shell, arguments: OutboxArguments) -> Result<()> {
    let client = shell.client()?;
    if let Some(OutboxCommand::Retry) = arguments.command {
        let request = client.request(Method::POST, &["outbox", "retry"]);
        let retry: OutboxRetry = client::read(client.send(request).await?).await?;
        return shell.output.outcome(&retry, &format!("{} events are sent again", retry.queued));
    }
    let view: OutboxView = client.get(&["outbox"], &[]).await?;
    if shell.output.json {
        return document(&view);
    }
    for text in words(&view) {
        line(&visible(&text))?;
    }
    if view.last_refused.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["HOUR", "TENANT", "CONTAINER", "METER", "REFUSED", "PROBLEM"]);
    for event in &view.last_refused {
        table.row([
            event.hour.to_string(),
            event.tenant.to_string(),
            event.container.short().to_owned(),
            event.meter.as_str().to_owned(),
            event.refused_at.to_string(),
            event.problem.clone(),
        ]);
    }
    write_out(format!("\n{}", table.render()).as_bytes())
}

fn words(view: &OutboxView) -> Vec<String> {
    let Some(url) = &view.url else {
        return vec!["nothing is sent: set outbox.url of the agent".to_owned()];
    };
    let OutboxView { gathering, queued, refused, dropped, sent, .. } = view;
    let since = view.oldest_queued_hour.map(|hour| format!(" since {hour}")).unwrap_or_default();
    let last = view.last_sent_at.map(|at| format!(", the last at {at}")).unwrap_or_default();
    let mut lines = vec![
        format!("to {url}"),
        format!(
            "{sent} sent since the agent started{last}; {gathering} of hours that go on, {queued} wait{since}"
        ),
        format!("{refused} refused, {dropped} dropped for want of room"),
    ];
    if let Some(problem) = &view.problem {
        lines.push(format!("the last {} attempts failed: {problem}", view.failures));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_how_many_and_what_is_wrong() {
        let mut view = OutboxView {
            url: None,
            gathering: 1,
            queued: 2,
            refused: 0,
            dropped: 0,
            oldest_queued_hour: None,
            sent: 3,
            last_sent_at: None,
            problem: Some("connection refused".to_owned()),
            failures: 4,
            last_refused: Vec::new(),
        };
        assert!(words(&view)[0].contains("outbox.url"));
        view.url = Some("http://meter/".to_owned());
        let text = words(&view).join("\n");
        for part in ["http://meter/", "3 sent", "2 wait", "the last 4 attempts failed: connection refused"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
