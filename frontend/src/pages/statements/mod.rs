//! Statements: what each tenant owes for a month, one of them line by line, and how a line came to be.

mod detail;
mod explain;
mod list;

pub(crate) use detail::StatementPage;
pub(crate) use list::Statements;

use leptos::prelude::*;
use wharf_shared::statement::StatementStatus;

use crate::view::statement;

/// Shape, colour and word of a status.
fn chip(status: StatementStatus) -> AnyView {
    let (shape, tone) = statement::look(status);
    view! {
        <span class=format!("chip {}", tone.class())>
            <span aria-hidden="true">{shape}</span>" "{status.as_str()}
        </span>
    }
    .into_any()
}
