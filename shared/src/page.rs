//! One page of a list.

use serde::{Deserialize, Serialize};

/// Some items, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items of this page, in the list's order.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; `null` on the last.
    pub next_cursor: Option<String>,
}
