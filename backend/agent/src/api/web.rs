//! Serves the dashboard, which the build script embedded.
//!
//! Files below `/assets/<hash>/` never change and may be kept for ever; `index.html` names that hash
//! and is never kept. Every other path outside `/api` is one of the dashboard's own routes and gets
//! `index.html` too. The content security policy allows no inline script and nothing from elsewhere
//! (SECURITY.md H12); the browser's own code compiles WebAssembly, hence `wasm-unsafe-eval`.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

struct Asset {
    path: &'static str,
    raw: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// `style-src-attr`: the terminal's fallback renderer sets `style` attributes for true colours.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
     style-src-attr 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const INDEX: &str = "/index.html";

const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Wharfage</title>\
     <h1>This agent was built without its dashboard</h1>\
     <p>Run <code>cargo xtask web</code>, then build the agent again. The API works all the same.</p></html>";

/// Answers any request that no route of the API took.
pub(crate) fn serve(method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    respond(ASSETS, method, uri.path(), headers)
}

fn respond(assets: &'static [Asset], method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is offered here\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // A path of the dashboard has no dot in its last part; what has one is a file or a mistake.
    let is_route = path.rsplit('/').next().is_none_or(|last| !last.contains('.'));
    let path = if is_route { INDEX } else { path };
    let Some(asset) = find(assets, path) else {
        return if path == INDEX {
            let mut response = html(StatusCode::SERVICE_UNAVAILABLE, Body::from(MISSING));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        } else {
            plain(StatusCode::NOT_FOUND, "no such file\n")
        };
    };
    let (encoding, bytes) = asset.choose(headers);
    let mut response = Response::new(Body::from(bytes));
    let is_kept = path.starts_with("/assets/");
    let cache = if is_kept { "public, max-age=31536000, immutable" } else { "no-store" };
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    out.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    secure(out);
    response
}

impl Asset {
    /// The smallest form that the client takes.
    fn choose(&self, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
        let packed = [("br", self.brotli), ("gzip", self.gzip)];
        for (name, bytes) in packed {
            if let Some(bytes) = bytes.filter(|_| accepts(headers, name)) {
                return (Some(name), bytes);
            }
        }
        (None, self.raw)
    }
}

fn find(assets: &'static [Asset], path: &str) -> Option<&'static Asset> {
    let at = assets.binary_search_by(|asset| asset.path.cmp(path)).ok()?;
    assets.get(at)
}

/// Whether `accept-encoding` names this coding without a weight of zero (RFC 9110 §12.5.3).
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let is_refused = parts
                .filter_map(|parameter| parameter.strip_prefix("q="))
                .any(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            is_named && !is_refused
        })
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("LICENSE") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = html(status, Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn html(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    secure(headers);
    response
}

fn secure(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOME: &[Asset] = &[
        Asset { path: "/assets/00ff/app.js", raw: b"raw", brotli: Some(b"brotli"), gzip: Some(b"gzip") },
        Asset { path: "/index.html", raw: b"index", brotli: None, gzip: None },
    ];

    fn get(path: &str, encoding: &str) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, encoding.parse().expect("a header"));
        respond(SOME, &Method::GET, path, &headers)
    }

    fn header(response: &Response<Body>, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
    }

    #[test]
    fn the_table_of_the_build_script_is_sorted() {
        assert!(ASSETS.is_sorted_by(|left, right| left.path < right.path));
    }

    #[test]
    fn hashed_files_are_kept_for_ever_and_the_index_never() {
        let asset = get("/assets/00ff/app.js", "");
        assert_eq!(header(&asset, CACHE_CONTROL), "public, max-age=31536000, immutable");
        for route in ["/", "/containers/abc", "/setup"] {
            let index = get(route, "br");
            assert_eq!((index.status(), header(&index, CACHE_CONTROL)), (StatusCode::OK, "no-store"));
            assert_eq!(header(&index, CONTENT_TYPE), "text/html; charset=utf-8");
        }
    }

    #[test]
    fn the_client_chooses_the_encoding() {
        for (accepted, sent) in [
            ("gzip, br", "br"),
            ("gzip", "gzip"),
            ("br;q=0, gzip;q=0.5", "gzip"),
            ("identity", ""),
            ("BR", "br"),
        ] {
            let response = get("/assets/00ff/app.js", accepted);
            assert_eq!(header(&response, CONTENT_ENCODING), sent, "{accepted}");
            assert_eq!(header(&response, VARY), "accept-encoding");
        }
    }

    #[test]
    fn every_answer_forbids_inline_script_sniffing_and_frames() {
        for path in ["/", "/assets/00ff/app.js", "/assets/none.js"] {
            let response = get(path, "");
            let policy = header(&response, CONTENT_SECURITY_POLICY);
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
            let script =
                policy.split(';').find(|part| part.trim().starts_with("script-src ")).expect("a rule");
            assert!(!script.contains("unsafe-inline"), "{script}");
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        }
    }

    #[test]
    fn an_unknown_file_is_not_the_index() {
        assert_eq!(get("/assets/00ff/none.js", "").status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/favicon.ico", "").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn nothing_is_changed_here() {
        let response = respond(SOME, &Method::POST, "/", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn an_agent_without_its_dashboard_says_what_to_run() {
        let response = respond(&[], &Method::GET, "/", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(MISSING.contains("cargo xtask web"));
    }
}
