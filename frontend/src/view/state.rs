//! A container's state: shape, tone and what can be done in it.

use wharf_shared::container::{ContainerState as State, ContainerView, ExitView};

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Ok,
    /// On its way.
    Info,
    /// Look at it.
    Warn,
    /// Broken.
    Bad,
    /// Nothing to say.
    Muted,
}

impl Tone {
    /// Class in the style sheets.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Ok => "tone-ok",
            Self::Info => "tone-info",
            Self::Warn => "tone-warn",
            Self::Bad => "tone-bad",
            Self::Muted => "tone-muted",
        }
    }
}

/// Shape and tone: states differ in shape, never in colour alone.
pub(crate) fn look(container: &ContainerView) -> (&'static str, Tone) {
    match container.state {
        State::Running => ("●", Tone::Ok),
        State::Created => ("○", Tone::Muted),
        State::Pulling | State::Starting | State::Restarting => ("◐", Tone::Info),
        State::Stopping | State::Removing => ("◒", Tone::Info),
        State::Paused => ("⏸", Tone::Warn),
        State::Failed => ("✖", Tone::Bad),
        State::Exited => match &container.exit {
            Some(exit) if exit.code == Some(0) => ("■", Tone::Muted),
            Some(exit) if exit.oom_killed || exit.supervisor_lost => ("▲", Tone::Bad),
            Some(_) => ("▲", Tone::Warn),
            None => ("■", Tone::Muted),
        },
    }
}

/// The state in words: `exited 137 (out of memory)`.
pub(crate) fn words(container: &ContainerView) -> String {
    match (container.state, &container.exit) {
        (State::Exited, Some(exit)) => format!("exited {}", exit_words(exit)),
        (state, _) => state.as_str().to_owned(),
    }
}

/// How it ended in words.
pub(crate) fn exit_words(exit: &ExitView) -> String {
    let code = match (exit.code, exit.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "with an unknown code".to_owned(),
    };
    if exit.oom_killed {
        format!("{code} (out of memory)")
    } else if exit.supervisor_lost {
        format!("{code} (supervisor lost)")
    } else {
        code
    }
}

/// Why a container needs attention, if it does.
pub(crate) fn attention(container: &ContainerView) -> Option<String> {
    match (container.state, &container.exit) {
        (State::Failed, _) => {
            Some(container.error.clone().unwrap_or_else(|| "could not be started".to_owned()))
        }
        (State::Exited, Some(exit))
            if exit.oom_killed || exit.supervisor_lost || !matches!(exit.code, Some(0) | None) =>
        {
            Some(format!("exited {}", exit_words(exit)))
        }
        (State::Restarting, _) if container.restart_count >= 3 => {
            Some(format!("restarted {} times", container.restart_count))
        }
        _ => None,
    }
}

/// Something that can be done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Start it.
    Start,
    /// Ask it to stop, then kill it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Kill it at once.
    Kill,
    /// Remove it, by force if it runs.
    Remove,
}

impl Action {
    /// The verb on the button.
    pub(crate) const fn verb(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Kill => "Kill",
            Self::Remove => "Remove",
        }
    }

    /// What is said when it was done.
    pub(crate) const fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Restart => "restarted",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Kill => "killed",
            Self::Remove => "removed",
        }
    }

    /// Whether the state allows it.
    pub(crate) const fn is_allowed_in(self, state: State) -> bool {
        match self {
            Self::Start => matches!(state, State::Created | State::Exited | State::Failed),
            Self::Stop => {
                matches!(state, State::Running | State::Paused | State::Starting | State::Restarting)
            }
            Self::Restart => matches!(state, State::Running | State::Exited | State::Failed),
            Self::Pause => matches!(state, State::Running),
            Self::Resume => matches!(state, State::Paused),
            Self::Kill => matches!(state, State::Running | State::Paused | State::Stopping),
            Self::Remove => !matches!(state, State::Removing),
        }
    }

    /// Whether the reader is asked first.
    pub(crate) const fn wants_confirmation(self) -> bool {
        matches!(self, Self::Stop | Self::Restart | Self::Kill | Self::Remove)
    }

    /// What it means for one container, before it is done.
    pub(crate) fn consequence(self, container: &ContainerView) -> String {
        match self {
            Self::Remove if container.state.is_live() => {
                "It runs: it is killed first. Its file changes and logs are lost; volumes stay, and so does what it used so far."
                    .to_owned()
            }
            Self::Remove => {
                "Its file changes and logs are lost; volumes stay, and so does what it used so far.".to_owned()
            }
            Self::Kill => "Its processes end at once, without a chance to save anything.".to_owned(),
            Self::Stop => format!(
                "It is asked to end, and killed after {} seconds.",
                container.spec.stop_grace_s.unwrap_or(10)
            ),
            Self::Restart => "It is stopped and started again; connections to it break.".to_owned(),
            Self::Start | Self::Pause | Self::Resume => String::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wharf_shared::container::ContainerSpec;
    use wharf_shared::time::Timestamp;

    pub(crate) fn container(name: &str, state: State) -> ContainerView {
        ContainerView {
            id: "ab".repeat(32).parse().expect("an id"),
            name: name.to_owned(),
            tenant: "tnt_0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b".parse().expect("an id"),
            tenant_name: "acme".to_owned(),
            state,
            error: None,
            image_digest: None,
            command_line: Vec::new(),
            created_at: Timestamp(0),
            started_at: None,
            finished_at: None,
            exit: None,
            health: None,
            restart_count: 0,
            pid: None,
            address: None,
            ports: Vec::new(),
            spec: ContainerSpec { image: "busybox:1.36".to_owned(), ..ContainerSpec::default() },
            version: 1,
        }
    }

    fn exit(code: i32, oom_killed: bool) -> ExitView {
        ExitView { code: Some(code), signal: None, oom_killed, supervisor_lost: false }
    }

    #[test]
    fn a_clean_exit_needs_no_attention_and_an_oom_does() {
        let mut ended = container("job", State::Exited);
        ended.exit = Some(exit(0, false));
        assert_eq!((attention(&ended), look(&ended).1), (None, Tone::Muted));
        ended.exit = Some(exit(137, true));
        assert_eq!(attention(&ended).as_deref(), Some("exited 137 (out of memory)"));
        assert_eq!(words(&ended), "exited 137 (out of memory)");
    }

    #[test]
    fn no_action_is_offered_that_the_state_forbids() {
        assert!(!Action::Start.is_allowed_in(State::Running));
        assert!(Action::Resume.is_allowed_in(State::Paused) && !Action::Pause.is_allowed_in(State::Paused));
        assert!(!Action::Remove.is_allowed_in(State::Removing));
    }

    #[test]
    fn removing_a_running_container_says_that_it_is_killed() {
        assert!(Action::Remove.consequence(&container("web", State::Running)).contains("killed first"));
        assert!(!Action::Remove.consequence(&container("web", State::Exited)).contains("killed first"));
    }
}
