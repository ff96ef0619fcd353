//! What a service answers when it cannot do what was asked: independent of HTTP.
//!
//! The public text says what happened and what to do; the cause stays in the log.

use std::error::Error;
use std::fmt;

use wharf_shared::problem::{FieldProblem, ProblemKind};
use wharf_store::StoreError;

/// A failed request to a service.
#[derive(Debug)]
pub(crate) struct ServiceError {
    pub(crate) kind: ProblemKind,
    pub(crate) detail: String,
    pub(crate) fields: Vec<FieldProblem>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What services return.
pub(crate) type Result<T, E = ServiceError> = std::result::Result<T, E>;

impl ServiceError {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), fields: Vec::new(), source: None }
    }

    /// There is none, or it is not the caller's to know.
    pub(crate) fn not_found(noun: &str, name: &str) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {noun} {name:?}"))
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, detail)
    }

    /// Values that were refused, each with its field.
    pub(crate) fn invalid(fields: Vec<FieldProblem>) -> Self {
        let detail = match fields.as_slice() {
            [one] => format!("{}: {}", one.field, one.detail),
            many => format!("{} fields are not acceptable", many.len()),
        };
        Self { fields, ..Self::new(ProblemKind::Invalid, detail) }
    }

    /// One value that was refused.
    pub(crate) fn invalid_field(field: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldProblem { field: field.to_owned(), detail: detail.into() }])
    }

    /// A bug or a broken host: the caller learns only that.
    pub(crate) fn internal(what: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ProblemKind::Internal, format!("{what}; the agent's log has the cause")).because(source)
    }

    /// Adds the cause, for the log.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let (kind, detail) = match &error {
            StoreError::NotFound(noun) => (ProblemKind::NotFound, format!("there is no such {noun}")),
            StoreError::Ambiguous(noun) => {
                (ProblemKind::Conflict, format!("more than one {noun} fits; give its id"))
            }
            StoreError::Taken(what) => (ProblemKind::NameTaken, format!("the {what} is taken")),
            StoreError::InUse(noun) => (ProblemKind::InUse, format!("the {noun} is still in use")),
            StoreError::Stale(noun) => {
                (ProblemKind::Precondition, format!("the {noun} has changed in the meantime"))
            }
            StoreError::Refused(why) => (ProblemKind::Invalid, (*why).to_owned()),
            StoreError::Full(_) => {
                (ProblemKind::InsufficientStorage, "the disk is full; free some space".to_owned())
            }
            StoreError::Unavailable(_) => {
                (ProblemKind::Unavailable, "the database does not answer; try again".to_owned())
            }
            _ => {
                (ProblemKind::Internal, "the store could not do it; the agent's log has the cause".to_owned())
            }
        };
        Self::new(kind, detail).because(error)
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
