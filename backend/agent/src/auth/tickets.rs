//! Tickets for live sockets: in memory, single use, 30 seconds, bound to the user who asked.
//!
//! A browser cannot add a header to a WebSocket's handshake, and a cookie alone would let any page
//! open one. So a page first gets a ticket by an ordinary request, and sends it in the first frame.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use wharf_shared::problem::ProblemKind;
use wharf_shared::time::{SECOND_US, Timestamp};

use super::secret::Secret;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// A ticket is good for so long.
const LIFETIME_US: i64 = 30 * SECOND_US;
/// Tickets that are out at once, of everybody.
const CAPACITY: usize = 10_000;
/// Tickets that are out at once, of one user: a few tabs that reconnect.
const PER_USER: usize = 64;

/// The tickets that are out.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// By hash.
    out: Mutex<HashMap<String, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    ctx: Ctx,
    expires_at: Timestamp,
}

impl Tickets {
    /// A new ticket for the caller.
    pub(crate) fn issue(&self, ctx: &Ctx, now: Timestamp) -> Result<Secret> {
        let secret = Secret::generate("")?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|_, ticket| ticket.expires_at > now);
        let own = out.values().filter(|ticket| ticket.ctx.user == ctx.user).count();
        if own >= PER_USER || out.len() >= CAPACITY {
            return Err(ServiceError::new(
                ProblemKind::RateLimited,
                "too many unused tickets; wait 30 seconds",
            ));
        }
        out.insert(secret.hash(), Ticket { ctx: ctx.clone(), expires_at: Timestamp(now.0 + LIFETIME_US) });
        Ok(secret)
    }

    /// Whose ticket it is. It is used up, whatever comes of it.
    pub(crate) fn redeem(&self, ticket: &str, now: Timestamp) -> Result<Ctx> {
        let refuse =
            || ServiceError::new(ProblemKind::Unauthenticated, "the ticket is used, too old or unknown");
        let hash = Secret::received(ticket).ok_or_else(refuse)?.hash();
        let ticket =
            self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash).ok_or_else(refuse)?;
        if ticket.expires_at > now { Ok(ticket.ctx) } else { Err(refuse()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_thirty_seconds() {
        let tickets = Tickets::default();
        let ctx = Ctx::system("test");
        let first = tickets.issue(&ctx, Timestamp(0)).expect("issued");
        assert!(tickets.redeem(first.reveal(), Timestamp(1)).is_ok());
        assert!(tickets.redeem(first.reveal(), Timestamp(1)).is_err(), "used");
        let second = tickets.issue(&ctx, Timestamp(0)).expect("issued");
        assert!(tickets.redeem(second.reveal(), Timestamp(LIFETIME_US)).is_err(), "too old");
        assert!(tickets.redeem("nonsense", Timestamp(0)).is_err());
    }

    #[test]
    fn one_user_cannot_take_all_tickets() {
        let tickets = Tickets::default();
        let ctx = Ctx::system("test");
        for _ in 0..PER_USER {
            tickets.issue(&ctx, Timestamp(0)).expect("issued");
        }
        assert!(tickets.issue(&ctx, Timestamp(0)).is_err());
        assert!(tickets.issue(&ctx, Timestamp(LIFETIME_US)).is_ok(), "old ones make room");
    }
}
