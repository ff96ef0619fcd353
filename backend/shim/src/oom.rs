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

/// How long after a notification the counter is read. Also bounds how often: memory.events changes with
/// every failed reclaim.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// Watches one container's memory.
#[derive(Debug)]
pub(crate) struct OomWatch {
    source: Option<Source>,
    look_at: Option<Instant>,
    kills: u64,
}

#[derive(Debug)]
enum Source {
    Unified { events: File },
    Legacy { event: OwnedFd, _control: File },
}

impl OomWatch {
    /// Watches the container's group.
    pub(crate) fn open(cgroup: &Cgroup) -> Self {
        // Both are hints; a kernel without them costs only the notice.
        let source = cgroup.dir(Controller::Memory).and_then(|dir| unified(&dir).or_else(|| legacy(&dir)));
        Self { source, look_at: None, kills: 0 }
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

    /// Takes the counter, as kills since the launch; tells whether there were more than before.
    pub(crate) fn looked(&mut self, kills: Option<u64>) -> bool {
        self.look_at = None;
        let kills = kills.unwrap_or(self.kills);
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

    fn watch() -> OomWatch {
        OomWatch { source: None, look_at: None, kills: 0 }
    }

    #[test]
    fn only_a_higher_count_is_news() {
        let mut watch = watch();
        assert!(!watch.looked(Some(0)));
        assert!(watch.looked(Some(2)));
        assert!(!watch.looked(Some(2)));
        assert!(!watch.looked(None), "unreadable is not zero");
        assert_eq!(watch.kills(), 2);
        assert!(watch.looked(Some(3)));
    }

    #[test]
    fn notifications_are_followed_by_one_look() {
        let mut watch = watch();
        let now = Instant::now();
        watch.notified(now);
        assert_eq!(watch.look_at(), Some(now + LOOK_AFTER));
        watch.looked(Some(0));
        assert_eq!(watch.look_at(), None);
    }
}
