//! WebSockets: the multiplexed one of live topics, and those of execs and attached containers.

mod frames;
mod input;
mod process;
mod topics;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::WebSocket;
use axum::http::request::Parts;
use axum::response::Response;
use wharf_shared::live::{SUBPROTOCOL_JSON, SUBPROTOCOL_POSTCARD};
use wharf_shared::problem::ProblemKind;

pub(super) use process::{AttachQuery, attach, exec};
pub(super) use topics::live;

use super::extract::OptionalCaller;
use super::security::check_origin;
use crate::app::App;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError};

/// A frame from a client is never longer.
const FRAME_MAX_BYTES: usize = 256 * 1024;
/// A client says who it is within this time, or the socket closes.
const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Accepts a WebSocket if the client speaks one of our subprotocols and, when it did not send a
/// token, comes from an origin of ours. Who it is then follows from its first frame.
fn upgrade<F>(
    upgrade: WebSocketUpgrade,
    parts: &Parts,
    caller: OptionalCaller,
    work: impl FnOnce(frames::Frames, Option<Ctx>) -> F + Send + 'static,
) -> Result<Response>
where
    F: Future<Output = ()> + Send + 'static,
{
    if caller.0.is_none() {
        check_origin(parts)?;
    }
    let upgrade = upgrade
        .max_message_size(FRAME_MAX_BYTES)
        .max_frame_size(FRAME_MAX_BYTES)
        .protocols([SUBPROTOCOL_POSTCARD, SUBPROTOCOL_JSON]);
    let json = match upgrade.selected_protocol().map(|protocol| protocol.to_str().unwrap_or_default()) {
        Some(SUBPROTOCOL_POSTCARD) => false,
        Some(SUBPROTOCOL_JSON) => true,
        _ => {
            return Err(ServiceError::new(
                ProblemKind::Malformed,
                format!("offer the subprotocol {SUBPROTOCOL_POSTCARD} or {SUBPROTOCOL_JSON}"),
            ));
        }
    };
    Ok(upgrade.on_upgrade(move |socket: WebSocket| work(frames::Frames::new(socket, json), caller.0)))
}

/// Who is on the other side: the token's user, or whose ticket the first frame carries.
async fn authenticate(app: &App, caller: Option<Ctx>, ticket: Option<String>) -> Result<Ctx> {
    match (caller, ticket) {
        (Some(ctx), None) => Ok(ctx),
        (_, Some(ticket)) => app.auth.ticket_ctx(&ticket).await,
        (None, None) => Err(ServiceError::new(
            ProblemKind::Unauthenticated,
            "the first frame carries a ticket from POST /api/v1/auth/ws-ticket",
        )),
    }
}
