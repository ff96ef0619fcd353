//! Events as sentences.

use wharf_shared::event::EventView;

use super::state::Tone;

/// `web-1 started`: name and verb, and what the event says besides.
pub(crate) fn sentence(event: &EventView) -> String {
    let (noun, verb) = event.kind.split_once('.').unwrap_or(("", &event.kind));
    let name = if event.subject_name.is_empty() { &event.subject } else { &event.subject_name };
    format!("{noun} {name} {}", verb.replace(['_', '.'], " ")).trim().to_owned()
}

/// The event's details, `key value` joined.
pub(crate) fn details(event: &EventView) -> String {
    event
        .detail
        .iter()
        .map(|(key, value)| format!("{key} {}", shortened(value)))
        .collect::<Vec<_>>()
        .join(" · ")
}

/// A digest's first twelve characters are enough to know it again.
fn shortened(value: &str) -> String {
    value.strip_prefix("sha256:").map_or_else(|| value.to_owned(), |digest| digest.chars().take(12).collect())
}

/// What its colour says.
pub(crate) fn tone(event: &EventView) -> Tone {
    let verb = event.kind.rsplit('.').next().unwrap_or_default();
    match verb {
        "failed" | "oom" | "lost" => Tone::Bad,
        "exited" | "died" if event.detail.get("code").is_some_and(|code| code != "0") => Tone::Warn,
        "started" | "pulled" | "resumed" => Tone::Ok,
        "restarting" | "paused" => Tone::Warn,
        _ => Tone::Muted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_shared::time::Timestamp;

    #[test]
    fn an_event_reads_as_a_sentence() {
        let event = EventView {
            seq: 1,
            at: Timestamp(0),
            kind: "container.exited".to_owned(),
            tenant: None,
            subject: "ab".to_owned(),
            subject_name: "job".to_owned(),
            detail: [("code".to_owned(), "1".to_owned())].into(),
        };
        assert_eq!(sentence(&event), "container job exited");
        assert_eq!((details(&event).as_str(), tone(&event)), ("code 1", Tone::Warn));
    }
}
