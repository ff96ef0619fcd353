//! What happened and who did it: one table of events, one audit trail, both written with the change.
//!
//! [`EventBus::record`] and [`EventBus::audit`] write into the transaction of the change, so there is
//! no event of a change that was undone and no change without its entry. After the commit
//! [`EventBus::publish`] wakes subscribers; they read the table from the number they have, so a lost
//! wake-up delays an event and never loses one.

mod audit;
mod bus;
mod retention;

pub(crate) use audit::Deed;
pub(crate) use bus::{Change, EventBus};
