//! Light, dark, or as the system has it; kept in this browser.

use leptos::prelude::*;

use crate::browser;

const KEY: &str = "wharf.theme";

/// How the dashboard looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the system has it.
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Applies what was kept, and each later choice.
    pub(crate) fn provide() {
        let kept = browser::stored(KEY);
        let first = Self::ALL.into_iter().find(|theme| kept.as_deref() == Some(theme.as_str()));
        let theme = RwSignal::new(first.unwrap_or(Self::System));
        provide_context(theme);
        Effect::new(move |_| {
            let word = theme.get().as_str();
            if let Some(root) = document().document_element() {
                root.set_attribute("data-theme", word).ok();
            }
            browser::store(KEY, word);
        });
    }

    /// The next one, for the button.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::System => Self::Light,
            Self::Light => Self::Dark,
            Self::Dark => Self::System,
        }
    }
}
