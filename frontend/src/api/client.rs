//! The API's client: JSON over fetch, the CSRF header, problems as values.

use std::cell::Cell;
use std::fmt;

use leptos::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, RequestInit, Response};
use wharf_shared::auth::CSRF_HEADER;
use wharf_shared::page::Page;
use wharf_shared::problem::{FieldProblem, Problem, ProblemKind};

use crate::view::create::of_field;
use crate::view::route;

/// Pages of a list that are fetched at most; with the limit below, forty thousand items.
const PAGES_MAX: u32 = 40;
const PAGE_ITEMS: &str = "1000";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The agent said what is wrong.
    Problem(Box<Problem>),
    /// The agent could not be reached.
    Unreachable,
    /// The list is longer than a page can hold; a part of it would pass for the whole.
    TooMany,
    /// Something that is not the agent's API answered.
    Unexpected(String),
}

impl Failure {
    /// What is wrong with single fields.
    pub(crate) fn fields(&self) -> Vec<FieldProblem> {
        match self {
            Self::Problem(problem) => problem.fields.clone(),
            Self::Unreachable | Self::TooMany | Self::Unexpected(_) => Vec::new(),
        }
    }

    /// Whether only these fields are wrong.
    pub(crate) fn is_only_of(&self, wanted: &[&str]) -> bool {
        let fields = self.fields();
        let is_wanted =
            |field| wanted.iter().any(|wanted| of_field(std::slice::from_ref(field), wanted).is_some());
        !fields.is_empty() && fields.iter().all(is_wanted)
    }

    /// The id to look for in the agent's log.
    pub(crate) fn request_id(&self) -> Option<String> {
        match self {
            Self::Problem(problem) if !problem.instance.is_empty() => Some(problem.instance.clone()),
            _ => None,
        }
    }

    /// What is said to the reader, what to look for in the agent's log, and which fields are wrong.
    pub(crate) fn into_words(self) -> (String, Option<String>, Vec<FieldProblem>) {
        (self.to_string(), self.request_id(), self.fields())
    }

    /// Whether the agent said this.
    pub(crate) fn is(&self, kind: ProblemKind) -> bool {
        matches!(self, Self::Problem(problem) if problem.kind == kind)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) if problem.detail.is_empty() => f.write_str(&problem.title),
            Self::Problem(problem) => f.write_str(&problem.detail),
            Self::Unreachable => f.write_str("The agent cannot be reached. Is it running?"),
            Self::TooMany => {
                f.write_str("This list is too long to be shown. Narrow the choice, or export it.")
            }
            Self::Unexpected(what) => write!(f, "An answer that is not the agent's: {what}"),
        }
    }
}

/// The API, with the session's CSRF token.
#[derive(Clone, Copy)]
pub(crate) struct Api {
    csrf_token: StoredValue<String>,
    signed_out: RwSignal<u32>,
}

impl Api {
    /// An API of nobody.
    pub(crate) fn new() -> Self {
        Self { csrf_token: StoredValue::new(String::new()), signed_out: RwSignal::new(0) }
    }

    /// The one that the app provides.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Uses this token from now on.
    pub(crate) fn set_csrf_token(self, token: String) {
        self.csrf_token.set_value(token);
    }

    /// Counts answers that said the session has ended.
    pub(crate) fn signed_out(self) -> Signal<u32> {
        self.signed_out.into()
    }

    /// Gets a thing.
    pub(crate) async fn get<T: DeserializeOwned>(self, path: String) -> Result<T, Failure> {
        read(self.fetch("GET", &path, None).await?).await
    }

    /// Gets all items of a paged list.
    pub(crate) async fn list<T: DeserializeOwned>(self, path: String) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let joint = if path.contains('?') { "&" } else { "?" };
            let query = route::query(&[("limit", PAGE_ITEMS), ("cursor", &cursor)]);
            let page: Page<T> = self.get(format!("{path}{joint}{}", query.trim_start_matches('?'))).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = next,
                None => return Ok(items),
            }
        }
        Err(Failure::TooMany)
    }

    /// Sends a thing and reads the answer.
    pub(crate) async fn send<B: Serialize, T: DeserializeOwned>(
        self,
        method: &str,
        path: String,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        read(self.send_json(method, &path, body).await?).await
    }

    /// Sends a thing whose answer has no body.
    pub(crate) async fn send_unit<B: Serialize>(
        self,
        method: &str,
        path: String,
        body: Option<&B>,
    ) -> Result<(), Failure> {
        self.send_json(method, &path, body).await.map(drop)
    }

    /// Asks for a change that needs no body.
    pub(crate) async fn act(self, method: &str, path: String) -> Result<(), Failure> {
        self.fetch(method, &path, None).await.map(drop)
    }

    /// Uploads a file as it is.
    pub(crate) async fn upload<T: DeserializeOwned>(
        self,
        path: String,
        content_type: &str,
        file: &web_sys::Blob,
    ) -> Result<T, Failure> {
        read(self.fetch("POST", &path, Some((content_type, file.as_ref()))).await?).await
    }

    async fn send_json<B: Serialize>(
        self,
        method: &str,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response, Failure> {
        let Some(body) = body else { return self.fetch(method, path, None).await };
        let text = serde_json::to_string(body).map_err(|error| Failure::Unexpected(error.to_string()))?;
        self.fetch(method, path, Some(("application/json", &text.into()))).await
    }

    async fn fetch(
        self,
        method: &str,
        path: &str,
        body: Option<(&str, &JsValue)>,
    ) -> Result<Response, Failure> {
        let broken = |error: JsValue| Failure::Unexpected(format!("{error:?}"));
        let headers = Headers::new().map_err(broken)?;
        headers.set("accept", "application/json").map_err(broken)?;
        if method != "GET" {
            self.csrf_token.with_value(|token| headers.set(CSRF_HEADER, token)).map_err(broken)?;
        }
        let init = RequestInit::new();
        init.set_method(method);
        if let Some((content_type, content)) = body {
            headers.set("content-type", content_type).map_err(broken)?;
            init.set_body(content);
        }
        init.set_headers_headers(&headers);
        let url = format!("/api/v1{path}");
        let answer = JsFuture::from(window().fetch_with_str_and_init(&url, &init)).await;
        let Ok(response) = answer.and_then(JsValue::dyn_into::<Response>) else {
            return Err(Failure::Unreachable);
        };
        if response.ok() {
            return Ok(response);
        }
        let failure = match text(&response).await.map(|text| serde_json::from_str::<Problem>(&text)) {
            Ok(Ok(problem)) => Failure::Problem(Box::new(problem)),
            // A proxy in between, or the agent behind it is away.
            _ => Failure::Unexpected(format!("HTTP {}", response.status())),
        };
        if failure.is(ProblemKind::Unauthenticated) {
            self.signed_out.try_update(|count| *count += 1);
        }
        Err(failure)
    }
}

async fn text(response: &Response) -> Result<String, JsValue> {
    let text = JsFuture::from(response.text()?).await?;
    Ok(text.as_string().unwrap_or_default())
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    // The connection may end in the middle of a body.
    let text = text(&response).await.ok().ok_or(Failure::Unreachable)?;
    serde_json::from_str(&text).map_err(|error| Failure::Unexpected(error.to_string()))
}

thread_local! {
    static NEXT_ID: Cell<u32> = const { Cell::new(1) };
}

/// A number that no other element or subscription of this page has.
pub(crate) fn next_id() -> u32 {
    NEXT_ID.with(|next| next.replace(next.get().wrapping_add(1)))
}
