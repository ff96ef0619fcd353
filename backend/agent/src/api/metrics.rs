//! `/metrics`: the agent about itself, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use wharf_shared::permission::Permission;

use super::extract::Caller;
use super::http_metrics::HttpMetrics;
use crate::app::App;
use crate::error::{Result, ServiceError};

/// Media type of Prometheus' text format.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Shows the agent's own series to those who may see the host.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Extension(http): Extension<Arc<HttpMetrics>>,
) -> Result<impl IntoResponse> {
    ctx.require(Permission::HostRead)?;
    let host = app.host.view(&ctx).await?;
    let mut text = String::new();
    write(&mut text, &host, &http)
        .map_err(|error| ServiceError::internal("metrics could not be written", error))?;
    Ok(([(CONTENT_TYPE, TEXT)], text))
}

fn write(text: &mut String, host: &wharf_shared::host::HostView, http: &HttpMetrics) -> std::fmt::Result {
    let mut gauge = |name: &str, help: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "# HELP wharf_{name} {help}\n# TYPE wharf_{name} gauge\nwharf_{name} {value}")
    };
    gauge("containers_running", "Containers that run.", &host.containers_running)?;
    gauge("containers_existing", "Containers that exist.", &host.containers_total)?;
    gauge("disk_free_bytes", "Bytes free where state is kept.", &host.disk_free_bytes)?;
    gauge("disk_size_bytes", "Bytes in all where state is kept.", &host.disk_total_bytes)?;
    gauge("agent_start_time_seconds", "When the agent started.", &(host.agent_started_at.0 / 1_000_000))?;
    writeln!(text, "# HELP wharf_agent_info Version of the agent.\n# TYPE wharf_agent_info gauge")?;
    writeln!(text, "wharf_agent_info{{version=\"{}\",cgroup=\"{}\"}} 1", host.version, host.cgroup_layout)?;
    http.write(text)
}
