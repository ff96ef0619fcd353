//! What all pages share: who is signed in, the containers, what happened, what to say to the reader.

mod containers;
mod events;
mod notices;
mod remote;
mod session;
mod theme;

pub(crate) use containers::{Containers, Row, SPARK_POINTS};
pub(crate) use events::Events;
pub(crate) use notices::{Dismissed, Notices, Question, Questions};
pub(crate) use remote::Remote;
pub(crate) use session::{Auth, Session};
pub(crate) use theme::Theme;
