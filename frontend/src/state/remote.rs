//! A thing that is fetched: loading, here, failed, or here and stale. One type for every page.

use std::future::Future;
use std::time::Duration;

use leptos::prelude::*;

use super::Events;
use crate::api::Failure;

/// Changes that come close together are fetched once.
const SETTLE: Duration = Duration::from_millis(250);

/// A thing that is fetched, and fetched again when what it depends on changes. What was here stays
/// while the next answer is awaited or failed.
pub(crate) struct Remote<T: Send + Sync + 'static> {
    value: RwSignal<Option<T>>,
    failure: RwSignal<Option<Failure>>,
    wanted: RwSignal<u32>,
}

impl<T: Send + Sync + 'static> Clone for Remote<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for Remote<T> {}

impl<T: Clone + Send + Sync + 'static> Remote<T> {
    /// Fetches with `load`, again whenever a signal changes that it reads before its first await.
    pub(crate) fn new<F>(load: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let remote =
            Self { value: RwSignal::new(None), failure: RwSignal::new(None), wanted: RwSignal::new(0) };
        let latest = StoredValue::new(0_u32);
        Effect::new(move |_| {
            remote.wanted.track();
            let answer = load();
            let number = latest.get_value().wrapping_add(1);
            latest.set_value(number);
            leptos::task::spawn_local(async move {
                let answer = answer.await;
                // The page may be gone, or a later question asked.
                if latest.try_get_value() != Some(number) {
                    return;
                }
                match answer {
                    Ok(value) => {
                        remote.value.try_set(Some(value));
                        remote.failure.try_set(None);
                    }
                    Err(failure) => {
                        remote.failure.try_set(Some(failure));
                    }
                }
            });
        });
        remote
    }

    /// Fetches again when something of this kind happens (`container`, `image`, …).
    #[must_use]
    pub(crate) fn follow(self, noun: &'static str) -> Self {
        let changes = Events::expect().changes(noun);
        let is_set = StoredValue::new(false);
        Effect::new(move |before: Option<u32>| {
            let now = changes.get();
            if before.is_some_and(|before| before != now) && !is_set.get_value() {
                is_set.set_value(true);
                set_timeout(
                    move || {
                        is_set.try_update_value(|is_set| *is_set = false);
                        self.reload();
                    },
                    SETTLE,
                );
            }
            now
        });
        self
    }

    /// Fetches again.
    pub(crate) fn reload(self) {
        self.wanted.try_update(|wanted| *wanted = wanted.wrapping_add(1));
    }

    /// What is here.
    pub(crate) fn value(self) -> Signal<Option<T>> {
        self.value.into()
    }

    /// Why the last answer is missing.
    pub(crate) fn failure(self) -> Signal<Option<Failure>> {
        self.failure.into()
    }

    /// What is here without waiting for more.
    pub(crate) fn peek(self) -> Option<T> {
        self.value.get_untracked()
    }
}
