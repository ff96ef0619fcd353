//! One field of a row, before it is written as CSV or as Parquet.

use std::borrow::Cow;

use wharf_shared::time::Timestamp;

use crate::amount::Amount;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A text, or JSON as text; an empty one is written as a null.
    Text(Cow<'a, str>),
    /// A number.
    Number(Cow<'a, Amount>),
    /// A moment; FOCUS has whole seconds.
    Time(Timestamp),
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// As it stands in CSV; `None` for a null.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) => (!text.is_empty()).then(|| Cow::Borrowed(text.as_ref())),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Time(time) => Some(Cow::Owned(time.to_string())),
        }
    }
}
