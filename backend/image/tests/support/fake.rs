//! A registry that misbehaves as a test asks it to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::layout::Layout;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

/// Answers before the registry itself does, or leaves it to that.
pub(crate) type Intercept = Box<dyn Fn(&Seen, usize) -> Option<Response> + Send + Sync>;

pub(crate) struct Fake {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Serves the layout's blobs, and `tagged` under any tag.
    pub(crate) async fn serve(layout: &Layout, tagged: &Value, intercept: Intercept) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("address").to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let state = Arc::new((layout.blobs.clone(), tagged.clone(), intercept, Arc::clone(&seen)));
        let router = axum::Router::new().fallback(move |request: Request| {
            let state = Arc::clone(&state);
            async move {
                let (blobs, tagged, intercept, log) = &*state;
                let seen = read(&request);
                let before = {
                    let mut log = log.lock().expect("log");
                    let before = log.iter().filter(|old| old.path == seen.path).count();
                    log.push(seen.clone());
                    before
                };
                intercept(&seen, before).unwrap_or_else(|| answer(blobs, tagged, &seen))
            }
        });
        serve(listener, router);
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }

    pub(crate) fn blob_requests(&self) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains("/blobs/")).count()
    }
}

#[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
fn serve(listener: tokio::net::TcpListener, router: axum::Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn read(request: &Request) -> Seen {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    Seen { path, authorization: text(header::AUTHORIZATION), range: text(header::RANGE) }
}

fn answer(blobs: &BTreeMap<String, Vec<u8>>, tagged: &Value, seen: &Seen) -> Response {
    let last = seen.path.rsplit('/').next().unwrap_or_default();
    let manifest = seen.path.contains("/manifests/");
    let digest = if manifest && !last.starts_with("sha256:") {
        tagged["digest"].as_str().expect("digest")
    } else {
        last
    };
    let Some(bytes) = blobs.get(digest) else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers = HeaderMap::new();
    if manifest {
        let media_type = serde_json::from_slice::<Value>(bytes).expect("JSON")["mediaType"].clone();
        headers.insert(header::CONTENT_TYPE, media_type.as_str().expect("text").parse().expect("a header"));
    }
    headers.insert("docker-content-digest", digest.parse().expect("a header"));
    let from = seen
        .range
        .as_ref()
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            headers.insert(header::CONTENT_RANGE, range.parse().expect("a header"));
            (StatusCode::PARTIAL_CONTENT, headers, bytes.get(from..).expect("in range").to_vec())
                .into_response()
        }
        None => (headers, bytes.clone()).into_response(),
    }
}

/// A body that announces all of `bytes`, sends the first `count`, and breaks off.
pub(crate) fn broken_off(bytes: &[u8], count: usize) -> Response {
    let start = Bytes::copy_from_slice(bytes.get(..count).expect("shorter"));
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        vec![Ok(start), Err(std::io::ErrorKind::ConnectionReset.into())];
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    ([(header::CONTENT_LENGTH, bytes.len())], body).into_response()
}

/// A body that sends the first `count` bytes and then nothing, for ever.
pub(crate) fn stalled(bytes: &[u8], count: usize) -> Response {
    use futures_util::StreamExt as _;
    let start = Bytes::copy_from_slice(bytes.get(..count).expect("shorter"));
    let pieces =
        futures_util::stream::iter([Ok::<_, std::io::Error>(start)]).chain(futures_util::stream::pending());
    ([(header::CONTENT_LENGTH, bytes.len())], Body::from_stream(pieces)).into_response()
}

/// A body that sends one byte every 200 ms, for ever.
pub(crate) fn dripping(bytes: &[u8]) -> Response {
    use futures_util::StreamExt as _;
    let drops = futures_util::stream::iter(bytes.to_vec()).then(|byte| async move {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
    });
    Body::from_stream(drops).into_response()
}
