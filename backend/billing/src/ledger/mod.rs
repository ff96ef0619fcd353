//! The ledger: the host's journal as a chain of records that cannot be altered unseen.
//!
//! Each record has a hash over the hash before it and its own bytes ([`record`]). Every hour a record of
//! kind `checkpoint` ([`checkpoint`]) carries the host key's signature of all that is before it, so who has the
//! public key needs to trust nobody's copy. [`correction`] is how a person puts a number right: by a record more.
//! [`lines`] is the form in which a ledger leaves its host, and [`verify`] walks one record by record.
//!
//! What nobody can find in a copy alone is that its end was cut off behind a checkpoint: compare its head with
//! what the agent or a statement says ([`verify::Verifier::expect`]).

pub mod checkpoint;
pub mod correction;
pub mod lines;
pub mod record;
pub mod series;
pub mod verify;
