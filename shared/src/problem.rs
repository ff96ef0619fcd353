//! Errors on the wire: RFC 9457 problem details.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// Every kind of problem there is; the last part of the problem's `type` URI.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The last part of the `type` URI.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug,)* }
            }

            /// The HTTP status it is sent with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// A short summary for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

kinds! {
    /// The request could not be read.
    Malformed = "malformed", 400, "The request cannot be read";
    /// No valid credentials.
    Unauthenticated = "unauthenticated", 401, "Sign in, or send a valid token";
    /// Known, but not allowed.
    Forbidden = "forbidden", 403, "You are not allowed to do this";
    /// There is no such thing, or it is not yours to know.
    NotFound = "not-found", 404, "Not found";
    /// The method is not offered here.
    MethodNotAllowed = "method-not-allowed", 405, "This method is not offered here";
    /// The name is taken.
    NameTaken = "name-taken", 409, "The name is taken";
    /// The state does not allow it.
    Conflict = "conflict", 409, "The present state does not allow this";
    /// A port of the host is in use.
    PortInUse = "port-in-use", 409, "A port of the host is in use";
    /// Something else still uses it.
    InUse = "in-use", 409, "It is still in use";
    /// The thing changed since it was read.
    Precondition = "precondition", 412, "It has changed in the meantime";
    /// The body is too large.
    TooLarge = "too-large", 413, "The body is too large";
    /// The content type is not the one expected.
    UnsupportedMediaType = "unsupported-media-type", 415, "Send application/json";
    /// Well-formed, but a value is not acceptable.
    Invalid = "invalid", 422, "A value is not acceptable";
    /// The tenant's quota does not allow it.
    QuotaExceeded = "quota-exceeded", 422, "The quota does not allow this";
    /// The tenant's budget does not allow it.
    BudgetExceeded = "budget-exceeded", 422, "The budget does not allow this";
    /// Too many requests.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// A bug; details are in the agent's log under the request id.
    Internal = "internal", 500, "Internal error";
    /// The registry refused or could not be reached.
    Registry = "registry", 502, "The registry did not deliver the image";
    /// Not ready.
    Unavailable = "unavailable", 503, "Not available now";
    /// The host cannot do this.
    Unsupported = "unsupported", 501, "This host cannot do this";
    /// The disk is full.
    InsufficientStorage = "insufficient-storage", 507, "The disk is full";
}

/// One field that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// JSON pointer-like path of the field, such as `limits.memory_bytes`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

/// RFC 9457 problem details, sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `/problems/<kind>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// A short summary of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here and what to do now.
    pub detail: String,
    /// The request id, to find it in the agent's log.
    pub instance: String,
    /// The kind, for programs.
    pub kind: ProblemKind,
    /// Refused fields, if any.
    pub fields: Vec<FieldProblem>,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("/problems/{}", kind.slug()),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            instance: String::new(),
            kind,
            fields: Vec::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)?;
        for field in &self.fields {
            let text = format!("{}: {}", field.field, field.detail);
            // The detail of a single field's problem is often just this.
            if !self.detail.contains(&text) {
                write!(f, "; {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
