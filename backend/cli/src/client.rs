//! The agent's HTTP API, typed.
//!
//! Every answer that is no success is a [`Problem`], the agent's own or one made here from what
//! else came back (a proxy's page, for instance), so commands have one kind of refusal to show.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_shared::id::TenantId;
use wharf_shared::page::Page;
use wharf_shared::problem::{Problem, ProblemKind};
use wharf_shared::tenant::TenantView;

use crate::contexts::Context;
use crate::tls;

/// A connection may take this long to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer may take this long; long polls and streams ask for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// One agent, and who one is to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    tls: rustls::ClientConfig,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client for this agent.
    pub(crate) fn new(context: &Context) -> Result<Self> {
        let mut base =
            Url::parse(&context.url).with_context(|| format!("read the address {:?}", context.url))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && base.host().is_some(),
            "{:?} is no address of an agent; write http://HOST:PORT or https://HOST:PORT",
            context.url
        );
        base.set_query(None);
        base.set_fragment(None);
        base.set_path("/");
        let tls = tls::configuration(context.fingerprint.as_deref(), context.ca_file.as_deref())?;
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()
            .context("set up the HTTP client")?;
        Ok(Self { http, tls, base, token: context.token.clone() })
    }

    /// The address of `/api/v1` followed by these segments, each escaped.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// How TLS is done with this agent.
    pub(crate) fn tls(&self) -> &rustls::ClientConfig {
        &self.tls
    }

    /// The token that is sent.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A request with credentials, not sent yet.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let request = self.http.request(method, self.url(segments)).timeout(ANSWER_TIMEOUT);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and returns the answer if it is a success.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        Self::success(response).await
    }

    /// Sends a request whose answer may take longer than its time; `None` when it did.
    pub(crate) async fn try_send(&self, request: RequestBuilder) -> Result<Option<Response>> {
        match request.send().await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.is_timeout() && !error.is_connect() => Ok(None),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// The answer if it is a success, else the problem in it.
    pub(crate) async fn success(response: Response) -> Result<Response> {
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await.into()) }
    }

    /// Gets a thing.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        let request = self.request(Method::GET, segments).query(query);
        read(self.send(request).await?).await
    }

    /// Gets a thing, or nothing when the agent knows no such thing.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<T>> {
        match self.get(segments, query).await {
            Ok(thing) => Ok(Some(thing)),
            Err(error) if is_problem(&error, ProblemKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gets every item of a list, page after page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let page: Page<T> = self.get(segments, &query).await?;
            items.extend(page.items);
            match page.next_cursor {
                // A cursor that does not move would never end.
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// Sends a body and reads what comes back.
    pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        body: &B,
    ) -> Result<T> {
        let request = self.request(Method::POST, segments).query(query).json(body);
        read(self.send(request).await?).await
    }

    /// Does something that answers with nothing.
    pub(crate) async fn act(&self, request: RequestBuilder) -> Result<()> {
        self.send(request).await.map(drop)
    }

    /// The id of a tenant given by name or id; nothing for nothing.
    pub(crate) async fn tenant_id(&self, tenant: Option<&str>) -> Result<Option<TenantId>> {
        let Some(given) = tenant else { return Ok(None) };
        if let Ok(id) = given.parse() {
            return Ok(Some(id));
        }
        let view: TenantView = self.get(&["tenants", given], &[]).await?;
        Ok(Some(view.id))
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let address = self.base.origin().ascii_serialization();
        // The innermost cause says it best: "Connection refused", "certificate …".
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let cause = cause.to_string();
        // What rustls calls a verifier's own words.
        let cause = cause.strip_prefix("unexpected error: ").unwrap_or(&cause);
        anyhow::anyhow!("the agent at {address} cannot be reached: {cause}")
    }
}

/// A header map that asks for JSON lines.
pub(crate) fn wants_json_lines() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/x-ndjson"))])
}

/// Whether an error is the agent's refusal of this kind.
pub(crate) fn is_problem(error: &anyhow::Error, kind: ProblemKind) -> bool {
    error.downcast_ref::<Problem>().is_some_and(|problem| problem.kind == kind)
}

/// Reads an answer's body.
pub(crate) async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let url = response.url().path().to_owned();
    let body = response.bytes().await.with_context(|| format!("read the answer of {url}"))?;
    // Nothing (204) is `null`.
    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(body).with_context(|| {
        format!(
            "understand the answer of {url}; is it a wharfd, and of this version ({})?",
            env!("CARGO_PKG_VERSION")
        )
    })
}

async fn refusal(response: Response) -> Problem {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    problem_of(status.as_u16(), &body)
}

/// The problem in a body, or one that fits the status.
pub(crate) fn problem_of(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let kind = ProblemKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.status() == status)
            .unwrap_or(ProblemKind::Unavailable);
        Problem::new(kind, format!("it answered with status {status} and no explanation; is it a wharfd?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client> {
        Client::new(&Context { url: url.to_owned(), token: None, fingerprint: None, ca_file: None })
    }

    #[test]
    fn a_name_cannot_leave_its_path_segment() {
        let client = client("http://127.0.0.1:8080/somewhere?x=1#y").expect("a client");
        assert_eq!(
            client.url(&["containers", "../users?x#y", "start"]).as_str(),
            "http://127.0.0.1:8080/api/v1/containers/..%2Fusers%3Fx%23y/start"
        );
    }

    #[test]
    fn an_address_without_scheme_or_host_is_refused() {
        for bad in ["127.0.0.1:8080", "ftp://host", "host", "http://"] {
            assert!(client(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_s_page_becomes_a_problem_of_its_status() {
        assert_eq!(problem_of(404, b"<html>").kind, ProblemKind::NotFound);
        assert_eq!(problem_of(599, b"").kind, ProblemKind::Unavailable);
        let sent = Problem::new(ProblemKind::PortInUse, "8080");
        assert_eq!(problem_of(409, &serde_json::to_vec(&sent).expect("json")), sent);
    }
}
