//! Doing something to containers: asked first where something is lost, reported after.

use std::rc::Rc;

use leptos::prelude::*;

use crate::state::{Containers, Notices, Question, Questions, Row};
use crate::view::quantity;
use crate::view::state::Action;

/// More than this many at once must be typed.
const TYPED_ABOVE: usize = 10;

/// Does it to one container, after asking if need be.
pub(super) fn act(action: Action, row: &Row, done: impl Fn() + Clone + 'static) {
    let (containers, notices) = (Containers::expect(), Notices::expect());
    let view = row.view.get_untracked();
    let id = row.id.clone();
    let name = view.name.clone();
    let run = move || {
        let (id, name, done) = (id.clone(), name.clone(), done.clone());
        leptos::task::spawn_local(async move {
            match containers.act(action, &id).await {
                Ok(()) => {
                    notices.confirm(format!("{name} {}", action.done()));
                    done();
                }
                Err(failure) => notices.fail(&format!("{} {name}", action.verb()), &failure),
            }
        });
    };
    if !action.wants_confirmation() {
        return run();
    }
    Questions::expect().ask(Question {
        title: format!("{} {}?", action.verb(), view.name),
        consequence: action.consequence(&view),
        verb: format!("{} {}", action.verb(), view.name),
        typed: None,
        act: Rc::new(run),
    });
}

/// Does it to all of these that allow it, one after the other, and reports once.
pub(super) fn act_on_all(action: Action, rows: Vec<Row>, done: impl Fn() + Clone + 'static) {
    let (containers, notices) = (Containers::expect(), Notices::expect());
    let rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| row.view.with_untracked(|view| action.is_allowed_in(view.state)))
        .collect();
    let count = rows.len();
    if count == 0 {
        return notices.confirm(format!("None of the selected containers can be {}", action.done()));
    }
    let what = quantity::plural(count, "container");
    let names: Vec<_> =
        rows.iter().take(8).map(|row| row.view.with_untracked(|view| view.name.clone())).collect();
    let more = if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
    let run = move || {
        let (rows, done) = (rows.clone(), done.clone());
        leptos::task::spawn_local(async move {
            let mut good = 0;
            for row in &rows {
                match containers.act(action, &row.id).await {
                    Ok(()) => good += 1,
                    Err(failure) => {
                        let name = row.view.with_untracked(|view| view.name.clone());
                        notices.fail(&format!("{} {name}", action.verb()), &failure);
                    }
                }
            }
            notices.confirm(format!("{} {}", quantity::plural(good, "container"), action.done()));
            done();
        });
    };
    if !action.wants_confirmation() {
        return run();
    }
    Questions::expect().ask(Question {
        title: format!("{} {what}?", action.verb()),
        consequence: format!("{}{more}", names.join(", ")),
        verb: format!("{} {what}", action.verb()),
        typed: (count > TYPED_ABOVE).then(|| count.to_string()),
        act: Rc::new(run),
    });
}
