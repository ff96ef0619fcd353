//! Notices that the kernel killed a process of the container for want of memory.
//!
//! The counter decides; the kernel's notification only says when to look. cgroup v2 announces a
//! change of `memory.events` by `EPOLLPRI` (`cgroup-v2.rst`), v1 an out-of-memory situation through
//! an eventfd registered in `cgroup.event_control` (`cgroup-v1/memory.rst`); both come before the
//! kill is counted, so the look comes a little later. Without either the exit record still tells.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use wharf_runtime::cgroup::{Cgroup, Controller};
use wharf_runtime::usage::Measured;

/// How long after a notification the counter is read. Also bounds how often: memory.events changes with
/// every failed reclaim.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// Watches one container's memory.
#[derive(Debug)]
pub(crate) struct OomWatch {
    source: Option<Source>,
    look_at: Option<Instant>,
    /// The group's count before the launch: a group may have been used before.
    before: u64,
    kills: u64,
}

#[derive(Debug)]
enum Source {
    Unified { events: File },
    Legacy { event: OwnedFd, _control: File },
}

impl OomWatch {
    /// Watches the container's group, whose count was `before` at the launch.
    pub(crate) fn open(cgroup: &Cgroup, before: Measured) -> Self {
        // Both are hints; a kernel without them costs only the notice.
        let source = cgroup.dir(Controller::Memory).and_then(|dir| unified(&dir).or_else(|| legacy(&dir)));
        Self { source, look_at: None, before: before.value().unwrap_or(0), kills: 0 }
    }

    /// What to wait for; nothing while a look is due anyway.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.look_at.is_some() {
            return None;
        }
        Some(match self.source.as_ref()? {
            Source::Unified { events } => (events.as_fd(), PollFlags::PRI),
            Source::Legacy { event, .. } => (event.as_fd(), PollFlags::IN),
        })
    }

    /// When to look at the counter.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Takes a notification.
    pub(crate) fn notified(&mut self, now: Instant) {
        match &self.source {
            // Reading takes the notification back; the content is read elsewhere.
            Some(Source::Unified { events }) => {
                rustix::io::pread(events, &mut [0_u8; 1024], 0).ok();
            }
            Some(Source::Legacy { event, .. }) => {
                rustix::io::read(event, &mut [0_u8; 8]).ok();
            }
            None => {}
        }
        self.look_at = Some(now + LOOK_AFTER);
    }

    /// Takes the group's count; tells whether it has grown.
    pub(crate) fn looked(&mut self, count: Measured) -> bool {
        self.look_at = None;
        let Some(count) = count.value() else { return false };
        let kills = count.saturating_sub(self.before);
        let more = kills > self.kills;
        self.kills = self.kills.max(kills);
        more
    }

    /// Kills since the launch, as far as seen.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }
}

fn unified(memory: &Path) -> Option<Source> {
    let events = File::open(memory.join("memory.events")).ok()?;
    Some(Source::Unified { events })
}

fn legacy(memory: &Path) -> Option<Source> {
    let control = File::open(memory.join("memory.oom_control")).ok()?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
    let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    std::fs::write(memory.join("cgroup.event_control"), registration).ok()?;
    Some(Source::Legacy { event, _control: control })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(before: u64) -> OomWatch {
        OomWatch { source: None, look_at: None, before, kills: 0 }
    }

    #[test]
    fn only_a_higher_count_is_news_and_earlier_kills_do_not_count() {
        let mut watch = watch(10);
        assert!(!watch.looked(Measured::Value(10)));
        assert!(watch.looked(Measured::Value(12)));
        assert!(!watch.looked(Measured::Value(12)));
        assert!(!watch.looked(Measured::Unreadable(5)), "unreadable is not zero");
        assert_eq!(watch.kills(), 2);
        assert!(watch.looked(Measured::Value(13)));
    }

    #[test]
    fn notifications_are_followed_by_one_look() {
        let mut watch = watch(0);
        let now = Instant::now();
        watch.notified(now);
        assert_eq!(watch.look_at(), Some(now + LOOK_AFTER));
        watch.looked(Measured::Value(0));
        assert_eq!(watch.look_at(), None);
    }
}
