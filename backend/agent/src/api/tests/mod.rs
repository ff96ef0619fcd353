//! The API from outside: requests to the whole router, a database of their own, a clock set by hand.

mod authorisation;
mod budgets;
mod doors;
mod exports;
mod ledger;
mod listening;
mod money;
mod nouns;
mod outbox;
mod refusals;
mod sign_in;
mod statements;
mod world;
