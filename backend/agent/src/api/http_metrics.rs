//! How many requests there were and how long they took, for Prometheus.
//!
//! Labels have few values: the route's pattern (never the path), method and status.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};

/// Upper bounds of the histogram's buckets in milliseconds.
const BUCKETS_MS: [u64; 8] = [1, 5, 20, 100, 500, 2_000, 10_000, 60_000];

/// Counts requests.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    by_label: Mutex<BTreeMap<(String, &'static str, u16), Series>>,
}

#[derive(Debug, Default, Clone)]
struct Series {
    count: u64,
    sum_us: u128,
    /// Not yet cumulated.
    buckets: [u64; BUCKETS_MS.len()],
}

impl HttpMetrics {
    pub(super) fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let mut by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        let series = by_label.entry((route.to_owned(), known(method), status.as_u16())).or_default();
        series.count += 1;
        series.sum_us += took.as_micros();
        let bucket = BUCKETS_MS.iter().position(|&bound| took.as_millis() < u128::from(bound));
        if let Some(count) = bucket.and_then(|at| series.buckets.get_mut(at)) {
            *count += 1;
        }
    }

    /// Appends the text format of Prometheus.
    pub(crate) fn write(&self, text: &mut String) -> std::fmt::Result {
        let by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writeln!(text, "# HELP wharf_http_requests_seconds Time until a response's head was sent.")?;
        writeln!(text, "# TYPE wharf_http_requests_seconds histogram")?;
        for ((route, method, status), series) in &by_label {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            let mut below = 0;
            for (bound, count) in BUCKETS_MS.iter().zip(series.buckets) {
                below += count;
                let (whole, millis) = (bound / 1_000, bound % 1_000);
                writeln!(
                    text,
                    "wharf_http_requests_seconds_bucket{{{labels},le=\"{whole}.{millis:03}\"}} {below}"
                )?;
            }
            writeln!(text, "wharf_http_requests_seconds_bucket{{{labels},le=\"+Inf\"}} {}", series.count)?;
            let (whole, micros) = (series.sum_us / 1_000_000, series.sum_us % 1_000_000);
            writeln!(text, "wharf_http_requests_seconds_sum{{{labels}}} {whole}.{micros:06}")?;
            writeln!(text, "wharf_http_requests_seconds_count{{{labels}}} {}", series.count)?;
        }
        Ok(())
    }
}

/// A client may invent methods; a label may not.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_request_in_every_bucket_above_it() {
        let metrics = HttpMetrics::default();
        for millis in [0, 30, 90_000] {
            metrics.observe(&Method::GET, "/x", StatusCode::OK, Duration::from_millis(millis));
        }
        let mut text = String::new();
        metrics.write(&mut text).expect("written");
        let labels = r#"method="GET",route="/x",status="200""#;
        for line in [
            format!(r#"_bucket{{{labels},le="0.001"}} 1"#),
            format!(r#"_bucket{{{labels},le="0.100"}} 2"#),
            format!(r#"_bucket{{{labels},le="60.000"}} 2"#),
            format!(r#"_bucket{{{labels},le="+Inf"}} 3"#),
            format!("_sum{{{labels}}} 90.030000"),
        ] {
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
