//! What is said to the reader: notices that confirm or report, questions before something is lost, and
//! what was read and put away.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use leptos::prelude::*;
use wharf_shared::id::PullId;

use crate::api::Failure;

const CONFIRMATION_LASTS: Duration = Duration::from_secs(5);

/// Something said to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Its number.
    pub(crate) id: u32,
    /// What is said.
    pub(crate) text: String,
    /// What to look for in the agent's log, if it is a failure.
    pub(crate) request_id: Option<String>,
    /// It reports a failure, and stays until it was read.
    pub(crate) is_failure: bool,
}

/// The notices of this page.
#[derive(Clone, Copy)]
pub(crate) struct Notices {
    list: RwSignal<Vec<Notice>>,
    next: StoredValue<u32>,
}

impl Notices {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { list: RwSignal::new(Vec::new()), next: StoredValue::new(0) }
    }

    /// The ones that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// All that are shown.
    pub(crate) fn list(self) -> Signal<Vec<Notice>> {
        self.list.into()
    }

    /// Confirms something, for a few seconds.
    pub(crate) fn confirm(self, text: impl Into<String>) {
        let id = self.add(text.into(), None, false);
        set_timeout(move || self.dismiss(id), CONFIRMATION_LASTS);
    }

    /// Reports a failure, until it is dismissed.
    pub(crate) fn fail(self, what: &str, failure: &Failure) {
        self.add(format!("{what}: {failure}"), failure.request_id(), true);
    }

    /// Takes one away.
    pub(crate) fn dismiss(self, id: u32) {
        self.list.update(|list| list.retain(|notice| notice.id != id));
    }

    fn add(self, text: String, request_id: Option<String>, is_failure: bool) -> u32 {
        let id = self.next.get_value();
        self.next.set_value(id.wrapping_add(1));
        self.list.update(|list| list.push(Notice { id, text, request_id, is_failure }));
        id
    }
}

/// Pulls that the reader put away. The agent tells of them for a while yet.
#[derive(Clone, Copy)]
pub(crate) struct Dismissed(StoredValue<BTreeSet<PullId>>);

impl Dismissed {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(StoredValue::new(BTreeSet::new()))
    }

    /// Those that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Puts one away.
    pub(crate) fn add(self, id: PullId) {
        self.0.update_value(|ids| {
            ids.insert(id);
        });
    }

    /// Whether it was put away.
    pub(crate) fn contains(self, id: &PullId) -> bool {
        self.0.with_value(|ids| ids.contains(id))
    }
}

/// A question before something is done.
#[derive(Clone)]
pub(crate) struct Question {
    /// What is asked: verb and object.
    pub(crate) title: String,
    /// What it means.
    pub(crate) consequence: String,
    /// The verb on the button.
    pub(crate) verb: String,
    /// What must be typed first, for what cannot be undone or concerns many.
    pub(crate) typed: Option<String>,
    /// What is done.
    pub(crate) act: Rc<dyn Fn()>,
}

/// The question that is open, if any.
#[derive(Clone, Copy)]
pub(crate) struct Questions {
    open: RwSignal<Option<Question>, LocalStorage>,
}

impl Questions {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { open: RwSignal::new_local(None) }
    }

    /// The one that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Asks.
    pub(crate) fn ask(self, question: Question) {
        self.open.set(Some(question));
    }

    /// What is asked now.
    pub(crate) fn open(self) -> Option<Question> {
        self.open.get()
    }

    /// Takes the question away.
    pub(crate) fn close(self) {
        self.open.set(None);
    }
}
