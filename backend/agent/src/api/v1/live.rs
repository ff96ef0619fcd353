//! `/api/v1/live`, the multiplexed WebSocket.

use std::sync::Arc;

use axum::extract::{Request, State, WebSocketUpgrade};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_shared::problem::Problem;

use crate::api::extract::OptionalCaller;
use crate::app::App;
use crate::error::Result;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(live))
}

/// WebSocket of live topics; see the frames `ClientFrame` and `ServerFrame`.
#[utoipa::path(get, path = "/live", tag = "live",
    responses((status = 101), (status = "default", body = Problem)))]
async fn live(
    state: State<Arc<App>>,
    caller: OptionalCaller,
    socket: WebSocketUpgrade,
    request: Request,
) -> Result<Response> {
    crate::api::live::live(state, caller, socket, request).await
}
