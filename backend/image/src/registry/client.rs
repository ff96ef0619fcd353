//! Requests: challenge, retry, bounded body, resumed blob.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::auth::{Challenge, Credentials, token_url};
use super::{Mirror, RegistryConfig, RegistryError};
use crate::digest::{Digest, Hasher};
use crate::manifest::{ACCEPT as MANIFEST_ACCEPT, Descriptor, MANIFEST_MAX_BYTES};
use crate::reference::{DOCKER_HUB, ImageRef};

/// Docker Hub's registry answers under another name than the one in references.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
const USER_AGENT: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));
const REDIRECTS_MAX: usize = 5;
const TOKEN_MAX_BYTES: u64 = 64 << 10;
/// A layer that grows by so much within the time limit is not stalled.
const STALL_MIN_BYTES: u64 = 64 << 10;
const BACKOFF_FIRST_MS: u64 = 200;
const BACKOFF_MAX_MS: u64 = 10_000;

/// Speaks to registries. Clones share connections, never credentials.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    http: Client,
    config: Arc<RegistryConfig>,
}

/// One repository at one registry or mirror, with what was learnt there during one pull.
#[derive(Debug)]
pub(crate) struct Endpoint {
    host: String,
    repository: String,
    plain_http: bool,
    credentials: Option<Credentials>,
    /// Kept for one pull only: another caller's credentials must never serve this one.
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or index as it was served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) body: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

impl RegistryClient {
    /// Makes a client.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`] if a certificate is not one.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let failed = |what| move |source| RegistryError::Configuration { what, source };
        let policy = redirect::Policy::custom(|attempt| {
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().first().is_some_and(|first| first.scheme() == "https");
            if downgrade {
                attempt.error("redirect from https to http")
            } else if attempt.previous().len() > REDIRECTS_MAX {
                attempt.error("too many redirects")
            } else {
                attempt.follow()
            }
        });
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(policy)
            .referer(false)
            // Digests are those of the bytes as they are sent, whatever features other crates turn on.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .read_timeout(Duration::from_millis(config.read_timeout_ms));
        for pem in &config.ca_certificates_pem {
            let certificates =
                Certificate::from_pem_bundle(pem.as_bytes()).map_err(failed("certificate authority"))?;
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let http = builder.build().map_err(failed("connections"))?;
        Ok(Self { http, config: Arc::new(config) })
    }

    pub(crate) fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// Returns where an image may be had: mirrors first, the registry itself last.
    pub(crate) fn endpoints(&self, reference: &ImageRef, credentials: Option<Credentials>) -> Vec<Endpoint> {
        let endpoint = |host: &str, repository: String, credentials| Endpoint {
            host: host.to_owned(),
            repository,
            plain_http: self.is_insecure(host),
            credentials,
            authorization: Mutex::default(),
        };
        let repository = reference.repository().to_owned();
        if reference.registry() != DOCKER_HUB {
            return vec![endpoint(reference.registry(), repository, credentials)];
        }
        let mirrors = self.config.mirrors.iter().map(|Mirror { host, prefix, credentials }| {
            let prefix = prefix.trim_matches('/');
            let path = if prefix.is_empty() { repository.clone() } else { format!("{prefix}/{repository}") };
            endpoint(host, path, credentials.clone())
        });
        mirrors.chain([endpoint(DOCKER_HUB_HOST, repository.clone(), credentials)]).collect()
    }

    /// Fetches a manifest or index by tag or digest, verified against the digest and the header's.
    pub(crate) async fn manifest(&self, endpoint: &Endpoint, locator: &str) -> Result<Served, RegistryError> {
        let mut tries = self.tries();
        loop {
            match self.in_time(endpoint, "manifest", self.try_manifest(endpoint, locator)).await {
                Err(error) => tries.again_after(error).await?,
                served => return served,
            }
        }
    }

    async fn try_manifest(&self, endpoint: &Endpoint, locator: &str) -> Result<Served, RegistryError> {
        let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFEST_ACCEPT))]);
        let response = self.get(endpoint, &format!("manifests/{locator}"), accept).await?;
        let announced = header_digest(response.headers());
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = bounded(endpoint, response, "manifest", MANIFEST_MAX_BYTES).await?;
        let digest = Digest::of(&body);
        for expected in [locator.parse().ok(), announced].into_iter().flatten() {
            if digest != expected {
                return Err(RegistryError::DigestMismatch { expected, actual: digest });
            }
        }
        Ok(Served { body, media_type, digest })
    }

    /// Fetches a small blob whole, verified.
    pub(crate) async fn small_blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut tries = self.tries();
        loop {
            match self.in_time(endpoint, "configuration", self.try_small_blob(endpoint, descriptor)).await {
                Err(error) => tries.again_after(error).await?,
                body => return body,
            }
        }
    }

    async fn try_small_blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let response = self.get(endpoint, &format!("blobs/{}", descriptor.digest), HeaderMap::new()).await?;
        let body = bounded(endpoint, response, "blob", descriptor.size).await?;
        let mut hasher = Hasher::default();
        hasher.update(&body);
        verify(descriptor, hasher)?;
        Ok(body)
    }

    /// Fetches a blob piece by piece into `pieces`, resuming where it broke off, and verifies it at the end.
    ///
    /// Goes on when nobody receives any more, because a wrong digest explains whatever made them stop.
    pub(crate) async fn blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        pieces: mpsc::Sender<Piece>,
        received: impl Fn(u64) + Send + Sync,
    ) -> Result<(), RegistryError> {
        let mut transfer = Transfer {
            client: self,
            endpoint,
            descriptor,
            hasher: Hasher::default(),
            pieces,
            received,
            waited: Duration::ZERO,
            grown_bytes: 0,
        };
        let mut tries = self.tries();
        loop {
            let from = transfer.hasher.bytes();
            let Err(error) = transfer.request(from).await else { break };
            // Progress shows that the registry lives: only failures in a row count.
            if transfer.hasher.bytes() > from {
                tries = self.tries();
            }
            tracing::debug!(host = endpoint.host, digest = %descriptor.digest, at_bytes = from, "blob interrupted");
            tries.again_after(error).await?;
        }
        verify(descriptor, transfer.hasher)?;
        // Nobody left to tell is the receiver's own failure, which it reports itself.
        transfer.pieces.send(Piece::End).await.unwrap_or_default();
        Ok(())
    }

    /// Sends one GET, answering a challenge once.
    async fn get(
        &self,
        endpoint: &Endpoint,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response, RegistryError> {
        let scheme = if endpoint.plain_http { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", endpoint.host, endpoint.repository);
        for challenged in [false, true] {
            let mut request = self.http.get(&url).headers(headers.clone());
            if let Some(authorization) = endpoint.authorization() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|source| endpoint.unreachable(source))?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED if !challenged => {
                    let authorization = self.answer(endpoint, response.headers()).await?;
                    endpoint.authorize(authorization);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(endpoint.unauthorized()),
                StatusCode::NOT_FOUND => {
                    let what = format!("{}: {}", endpoint.repository, path.replace('/', " "));
                    return Err(RegistryError::NotFound { what, registry: endpoint.host.clone() });
                }
                status => return Err(endpoint.status(status, response.headers()).await),
            }
        }
        Err(endpoint.unauthorized())
    }

    /// Turns a challenge into the header that answers it.
    async fn answer(&self, endpoint: &Endpoint, headers: &HeaderMap) -> Result<HeaderValue, RegistryError> {
        let refused = |why| RegistryError::Challenge { registry: endpoint.host.clone(), why };
        let offered: Vec<&str> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        match Challenge::parse(&offered.join(", ")) {
            None => Err(refused("no known scheme")),
            Some(Challenge::Basic) => {
                let credentials = endpoint.credentials.as_ref().ok_or_else(|| endpoint.unauthorized())?;
                let pair = format!("{}:{}", credentials.username, credentials.password);
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                secret_header(&format!("Basic {encoded}")).ok_or_else(|| refused("unusable credentials"))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                // The scope is ours to choose; the registry's is only used if it is for this repository.
                let own = format!("repository:{}:pull", endpoint.repository);
                let scope = scope.filter(|scope| *scope == own).unwrap_or(own);
                let url = token_url(&realm, service.as_deref(), &scope, |host| self.is_insecure(host))
                    .map_err(refused)?;
                let token = self.token(endpoint, url).await?;
                secret_header(&format!("Bearer {token}")).ok_or_else(|| refused("unusable token"))
            }
        }
    }

    async fn token(&self, endpoint: &Endpoint, url: reqwest::Url) -> Result<String, RegistryError> {
        let mut tries = self.tries();
        loop {
            match self.in_time(endpoint, "token", self.try_token(endpoint, url.clone())).await {
                Err(error) => tries.again_after(error).await?,
                token => return token,
            }
        }
    }

    async fn try_token(&self, endpoint: &Endpoint, url: reqwest::Url) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.http.get(url);
        if let Some(credentials) = &endpoint.credentials {
            request = request.basic_auth(&credentials.username, Some(&credentials.password));
        }
        let response = request.send().await.map_err(|source| endpoint.unreachable(source))?;
        match response.status() {
            StatusCode::OK => {
                let body = bounded(endpoint, response, "token", TOKEN_MAX_BYTES).await?;
                let answer: Answer =
                    serde_json::from_slice(&body).ok().ok_or_else(|| endpoint.malformed("token"))?;
                answer.token.or(answer.access_token).ok_or_else(|| endpoint.malformed("no token"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(endpoint.unauthorized()),
            status => Err(endpoint.status(status, response.headers()).await),
        }
    }

    fn stall_timeout(&self) -> Duration {
        Duration::from_millis(self.config.stall_timeout_ms)
    }

    /// One small answer, whole, within the time limit.
    async fn in_time<T>(
        &self,
        endpoint: &Endpoint,
        what: &str,
        answer: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let limit = self.stall_timeout();
        tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_elapsed| Err(endpoint.stalled(what, limit)))
    }

    fn tries(&self) -> Tries {
        Tries { failures: 0, attempts: self.config.attempts }
    }

    fn is_insecure(&self, host: &str) -> bool {
        self.config.insecure_hosts.iter().any(|insecure| insecure.eq_ignore_ascii_case(host))
    }
}

/// Counts how often something failed.
#[derive(Debug)]
struct Tries {
    failures: u32,
    attempts: u32,
}

impl Tries {
    /// Waits if another try may succeed; else gives the error back.
    async fn again_after(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.failures += 1;
        if !error.is_transient() || self.failures >= self.attempts {
            return Err(error);
        }
        pause(self.failures, None).await;
        Ok(())
    }
}

/// A blob on its way, over as many requests as it takes.
struct Transfer<'a, F> {
    client: &'a RegistryClient,
    endpoint: &'a Endpoint,
    descriptor: &'a Descriptor,
    hasher: Hasher,
    pieces: mpsc::Sender<Piece>,
    received: F,
    /// Time spent waiting for the registry, and what came in it, since it last sent enough.
    waited: Duration,
    grown_bytes: u64,
}

impl<F: Fn(u64) + Send + Sync> Transfer<'_, F> {
    /// Waits for the registry; time in which the unpacker or the disk is waited for does not count.
    async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, RegistryError> {
        let (begun, limit) = (Instant::now(), self.client.stall_timeout());
        let outcome = tokio::time::timeout(limit.saturating_sub(self.waited), answer).await;
        self.waited += begun.elapsed();
        outcome.map_err(|_elapsed| self.endpoint.stalled(&format!("layer {}", self.descriptor.digest), limit))
    }

    fn grown(&mut self, bytes: usize) {
        self.grown_bytes += bytes as u64;
        if self.grown_bytes >= STALL_MIN_BYTES {
            (self.waited, self.grown_bytes) = (Duration::ZERO, 0);
        }
    }

    /// Asks for the bytes after the first `from`, and passes them on.
    async fn request(&mut self, from: u64) -> Result<(), RegistryError> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let path = format!("blobs/{}", self.descriptor.digest);
        let (client, endpoint) = (self.client, self.endpoint);
        let response = self.wait(client.get(endpoint, &path, headers)).await??;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
        if resumed {
            let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
                return Err(self.endpoint.malformed("another range than the one asked for"));
            }
        }
        // A registry without ranges sends all again: what is here already is skipped.
        let mut skip = if resumed { 0 } else { from };
        let mut stream = response.bytes_stream();
        while let Some(piece) = self.wait(stream.next()).await? {
            let mut piece = piece.map_err(|source| self.endpoint.unreachable(source))?;
            self.grown(piece.len());
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= known as u64;
            let piece = piece.split_off(known);
            self.hasher.update(&piece);
            let received = self.hasher.bytes();
            if received > self.descriptor.size {
                return Err(size_mismatch(self.descriptor, received));
            }
            (self.received)(received);
            if !piece.is_empty() {
                self.pieces.send(Piece::Bytes(piece)).await.unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// A piece of a blob on its way to the unpacker.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// All bytes came and were verified. Without it the stream was abandoned.
    End,
}

impl Endpoint {
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn authorize(&self, value: HeaderValue) {
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn unreachable(&self, source: reqwest::Error) -> RegistryError {
        if is_no_tls(&source) {
            return RegistryError::NoTls { registry: self.host.clone() };
        }
        // The address may carry a token of the storage behind the registry.
        RegistryError::Unreachable { registry: self.host.clone(), source: source.without_url() }
    }

    fn stalled(&self, what: &str, waited: Duration) -> RegistryError {
        let (registry, what) = (self.host.clone(), what.to_owned());
        RegistryError::Stalled { registry, what, waited_s: waited.as_secs() }
    }

    fn unauthorized(&self) -> RegistryError {
        RegistryError::Unauthorized { repository: self.repository.clone(), registry: self.host.clone() }
    }

    fn malformed(&self, what: &'static str) -> RegistryError {
        RegistryError::Malformed { registry: self.host.clone(), what }
    }

    /// Waits as long as the registry asks, then gives the error that decides about another try.
    async fn status(&self, status: StatusCode, headers: &HeaderMap) -> RegistryError {
        let registry = self.host.clone();
        if status != StatusCode::TOO_MANY_REQUESTS {
            return RegistryError::Status { registry, status: status.as_u16() };
        }
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        pause(1, seconds).await;
        RegistryError::RateLimited { registry }
    }
}

/// Waits before another try: doubling, capped, half of it by chance so that clients spread.
async fn pause(failures: u32, asked_seconds: Option<u64>) {
    let doubled = BACKOFF_FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = asked_seconds.map_or(doubled, |seconds| seconds.saturating_mul(1000)).min(BACKOFF_MAX_MS);
    let mut random = [0; 2];
    // Without randomness all wait the same, which is only less polite.
    getrandom::fill(&mut random).unwrap_or_default();
    let spread = (longest / 2) * u64::from(u16::from_ne_bytes(random)) / u64::from(u16::MAX);
    tokio::time::sleep(Duration::from_millis(longest - longest / 2 + spread)).await;
}

async fn bounded(
    endpoint: &Endpoint,
    response: Response,
    what: &'static str,
    limit_bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::TooLarge { what, limit_bytes };
    if response.content_length().is_some_and(|length| length > limit_bytes) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|source| endpoint.unreachable(source))?;
        if (body.len() + piece.len()) as u64 > limit_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Whether the other side answered a TLS greeting with something that is none, as plain HTTP is. rustls is told by
/// its words, because reqwest hides its type.
fn is_no_tls(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("InvalidContentType") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

fn verify(descriptor: &Descriptor, hasher: Hasher) -> Result<(), RegistryError> {
    let actual_bytes = hasher.bytes();
    let actual = hasher.finish();
    if actual == descriptor.digest && actual_bytes == descriptor.size {
        return Ok(());
    }
    if actual_bytes != descriptor.size {
        return Err(size_mismatch(descriptor, actual_bytes));
    }
    Err(RegistryError::DigestMismatch { expected: descriptor.digest, actual })
}

fn size_mismatch(descriptor: &Descriptor, actual_bytes: u64) -> RegistryError {
    RegistryError::SizeMismatch { digest: descriptor.digest, expected_bytes: descriptor.size, actual_bytes }
}

/// The receiving end of a blob, for blocking readers.
#[derive(Debug)]
pub(crate) struct PieceReader<F> {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    read_bytes: u64,
    /// Told how many bytes were read so far.
    progress: F,
}

impl<F: FnMut(u64)> PieceReader<F> {
    pub(crate) fn new(pieces: mpsc::Receiver<Piece>, progress: F) -> Self {
        Self { pieces, current: Bytes::new(), ended: false, read_bytes: 0, progress }
    }
}

impl<F: FnMut(u64)> io::Read for PieceReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the download was abandoned",
                    ));
                }
            }
        }
        let count = self.current.len().min(buffer.len());
        let piece = self.current.split_to(count);
        if let Some(space) = buffer.get_mut(..count) {
            space.copy_from_slice(&piece);
        }
        self.read_bytes += count as u64;
        (self.progress)(self.read_bytes);
        Ok(count)
    }
}
