//! What happened, and who did what.

use anyhow::Result;
use clap::Args;
use wharf_shared::event::{AuditView, EventView};
use wharf_shared::live::{Topic, TopicItem};
use wharf_shared::page::Page;

use super::Shell;
use crate::live;
use crate::output::{self, Table, visible};
use crate::resume::Resume;

/// `wharf events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// Go on with new events as they come.
    #[arg(short, long)]
    follow: bool,
    /// Begin after this event; with the first one when absent.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: i64,
}

/// `wharf audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// Begin before this entry; with the last one when absent.
    #[arg(long, value_name = "SEQ")]
    before: Option<i64>,
    /// So many entries.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
}

/// Shows events.
pub(crate) async fn events(shell: &Shell, arguments: EventsArguments) -> Result<()> {
    let client = shell.client()?;
    let mut resume = Resume::at(arguments.after);
    loop {
        let after = resume.cursor().to_string();
        let page: Page<EventView> =
            client.get(&["events"], &[("follow", "false"), ("after", &after)]).await?;
        let new: Vec<_> = page.items.into_iter().filter(|event| resume.accept(event.seq)).collect();
        if new.is_empty() {
            break;
        }
        new.iter().try_for_each(|event| shell.output.item(event, line))?;
    }
    if !arguments.follow {
        return Ok(());
    }
    let topic = |after| Topic::Events { after: Some(after) };
    live::follow(&client, resume, topic, |resume, item| {
        if let TopicItem::Event(event) = item
            && resume.accept(event.seq)
        {
            shell.output.item(&event, line)?;
        }
        Ok(true)
    })
    .await
}

fn line(event: &EventView) -> String {
    let detail: Vec<String> = event.detail.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let name = if event.subject_name.is_empty() { &event.subject } else { &event.subject_name };
    let text = format!("{} {:>6} {} {name} {}", event.at, event.seq, event.kind, detail.join(" "));
    visible(text.trim_end())
}

/// Shows the audit trail, newest first.
pub(crate) async fn audit(shell: &Shell, arguments: AuditArguments) -> Result<()> {
    let client = shell.client()?;
    let limit = arguments.limit.to_string();
    let before = arguments.before.map(|seq| seq.to_string());
    let mut query = vec![("limit", limit.as_str())];
    query.extend(before.iter().map(|before| ("before", before.as_str())));
    let page: Page<AuditView> = client.get(&["audit"], &query).await?;
    shell.output.list(&page.items, |views| {
        let mut table =
            Table::new(&["SEQ", "AT", "ACTOR", "ADDRESS", "ACTION", "SUBJECT", "OUTCOME", "REQUEST"]);
        for view in views {
            table.row([
                view.seq.to_string(),
                view.at.to_string(),
                view.actor.clone(),
                view.address.clone().unwrap_or_default(),
                view.action.clone(),
                view.subject.clone(),
                view.outcome.clone(),
                view.request_id.clone(),
            ]);
        }
        table
    })?;
    if let (Some(last), false, true) = (page.items.last(), shell.output.json, page.next_cursor.is_some()) {
        output::note(&format!("There is more: --before {}", last.seq));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_a_tenant_put_into_it() {
        let event = EventView {
            seq: 7,
            at: wharf_shared::time::Timestamp(0),
            kind: "container.started".to_owned(),
            tenant: None,
            subject: "abc".to_owned(),
            subject_name: "web".to_owned(),
            detail: [("image".to_owned(), "a\nb".to_owned())].into(),
        };
        assert_eq!(line(&event), "1970-01-01T00:00:00Z      7 container.started web image=a\u{fffd}b");
    }
}
