//! The HTTP API as a test speaks to it: blocking, strict about statuses.

use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use wharf_shared::event::EventView;
use wharf_shared::live::LogLine;
use wharf_shared::problem::Problem;

/// One caller's view of the agent.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    runtime: Rc<Runtime>,
}

/// What another thread needs to become a client.
#[derive(Debug, Clone)]
pub struct Door {
    base: String,
    token: Option<String>,
}

impl Door {
    /// Becomes a client that keeps its connection, as programs do.
    pub fn enter(&self) -> Result<Api> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let http = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_mins(1)).build();
        let (base, token) = (self.base.clone(), self.token.clone());
        let runtime = Rc::new(runtime.context("make a runtime")?);
        Ok(Api { base, token, http: http.context("make a client")?, runtime })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The whole body.
    pub body: String,
}

impl Answer {
    /// The problem this answer is; anything else is an error.
    pub fn problem(&self) -> Result<Problem> {
        let problem: Problem = serde_json::from_str(&self.body)
            .with_context(|| format!("read a problem from {} {}", self.status, self.body))?;
        ensure!(problem.status == self.status.as_u16(), "the problem's status differs from {}", self.status);
        ensure!(!problem.detail.is_empty(), "the problem says nothing: {}", self.body);
        Ok(problem)
    }

    /// The body, if the answer was a success.
    pub fn success(self) -> Result<String> {
        ensure!(self.status.is_success(), "{} {}", self.status, self.body);
        Ok(self.body)
    }
}

impl Api {
    pub(crate) fn new(
        base: String,
        token: Option<String>,
        http: reqwest::Client,
        runtime: Rc<Runtime>,
    ) -> Self {
        Self { base, token, http, runtime }
    }

    /// The same agent, seen by the owner of another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same caller, for another thread.
    pub fn door(&self) -> Door {
        Door { base: self.base.clone(), token: self.token.clone() }
    }

    /// The token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        &self.runtime
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_at(method, &format!("/api/v1{path}"))
    }

    fn request_at(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn answer(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Answer> {
        self.runtime.block_on(async {
            let response = request.send().await.with_context(|| what.to_owned())?;
            let status = response.status();
            let body = response.text().await.with_context(|| format!("{what}: read the body"))?;
            Ok(Answer { status, body })
        })
    }

    /// Sends a request; any status is an answer.
    pub fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(&what, request)
    }

    /// Sends a request and hangs up after so long, whether an answer came or not.
    pub fn send_and_leave(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        after: std::time::Duration,
    ) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        // Whether and how it was answered is not for the one who left to know.
        drop(self.runtime.block_on(async { tokio::time::timeout(after, request.send()).await }));
    }

    /// Sends a request that must succeed, and reads its answer.
    fn read<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T> {
        let what = format!("{method} {path}");
        let text = self.send(method, path, body)?.success().with_context(|| what.clone())?;
        serde_json::from_str(&text).with_context(|| format!("{what}: understand {text}"))
    }

    /// Lets time pass between two looks at something.
    pub fn pause(&self, duration: std::time::Duration) {
        self.runtime.block_on(async { tokio::time::sleep(duration).await });
    }

    /// `GET`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.read(Method::GET, path, None)
    }

    /// `POST` with an answer.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.read(Method::POST, path, Some(body))
    }

    /// `PATCH`.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.read(Method::PATCH, path, Some(body))
    }

    /// `POST` without an answer worth reading.
    pub fn act(&self, path: &str, body: &Value) -> Result<()> {
        self.send(Method::POST, path, Some(body))?.success().with_context(|| format!("POST {path}"))?;
        Ok(())
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, None)?.success().with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    /// Sends a request that must be refused.
    pub fn refused(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Problem> {
        let what = format!("{method} {path}");
        let answer = self.send(method, path, body)?;
        if answer.status.is_success() {
            bail!("{what} was not refused: {} {}", answer.status, answer.body);
        }
        answer.problem()
    }

    /// `GET` as text.
    pub fn text(&self, path: &str) -> Result<String> {
        self.send(Method::GET, path, None)?.success().with_context(|| format!("GET {path}"))
    }

    /// `GET` as bytes.
    pub fn download(&self, path: &str) -> Result<Vec<u8>> {
        let request = self.request(Method::GET, path);
        self.runtime.block_on(async {
            let answer = request.send().await?.error_for_status().with_context(|| format!("GET {path}"))?;
            Ok(answer.bytes().await.with_context(|| format!("GET {path}: read the body"))?.to_vec())
        })
    }

    /// `GET` of something beside the API, such as `/metrics`; any status is an answer.
    pub fn beside(&self, path: &str) -> Result<Answer> {
        self.answer(path, self.request_at(Method::GET, path))
    }

    /// The log's lines after a cursor.
    pub fn log_lines(&self, container: &str, after: u64) -> Result<Vec<LogLine>> {
        let path = format!("/containers/{container}/logs?after={after}");
        let request = self.request(Method::GET, &path).header("accept", "application/x-ndjson");
        let text = self.answer(&path, request)?.success()?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("understand log line {line}")))
            .collect()
    }

    /// Reads the event stream until an event is the last one wanted.
    pub fn events_until(
        &self,
        path: &str,
        last_event_id: Option<i64>,
        is_last: impl Fn(&EventView) -> bool,
    ) -> Result<Vec<EventView>> {
        let mut request = self.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let read = async {
            let mut response = request.send().await?.error_for_status()?;
            let (mut text, mut events) = (String::new(), Vec::new());
            while let Some(chunk) = response.chunk().await? {
                text.push_str(std::str::from_utf8(&chunk)?);
                while let Some((message, rest)) = text.split_once("\n\n") {
                    let field = |name| message.lines().find_map(|line| line.strip_prefix(name));
                    // A comment is a sign of life.
                    if let Some(data) = field("data: ") {
                        let event: EventView = serde_json::from_str(data)?;
                        ensure!(
                            field("id: ") == Some(&event.seq.to_string()),
                            "the number differs: {message}"
                        );
                        let last = is_last(&event);
                        events.push(event);
                        if last {
                            return Ok(events);
                        }
                    }
                    text = rest.to_owned();
                }
            }
            bail!("the stream ended after {events:?}")
        };
        let deadline = std::time::Duration::from_secs(30);
        self.runtime
            .block_on(async { tokio::time::timeout(deadline, read).await })
            .with_context(|| format!("GET {path}: the event did not come in time"))?
            .with_context(|| format!("GET {path}"))
    }

    /// Sends an archive.
    pub fn import<T: DeserializeOwned>(&self, query: &str, archive: Vec<u8>) -> Result<T> {
        let path = format!("/images/import?{query}");
        let request =
            self.request(Method::POST, &path).header("content-type", "application/x-tar").body(archive);
        let text = self.answer(&path, request)?.success().with_context(|| path.clone())?;
        serde_json::from_str(&text).with_context(|| format!("{path}: understand {text}"))
    }

    /// `GET` of any address of this network namespace, within a second.
    pub fn fetch(&self, url: &str) -> Result<String> {
        let request = self.http.get(url).timeout(std::time::Duration::from_secs(1));
        self.answer(url, request)?.success()
    }
}
