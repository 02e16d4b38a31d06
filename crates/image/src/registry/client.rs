//! Conversation with one registry about one repository.
//!
//! A thin client over reqwest: redirects, authorisation and retries are done here, by hand, because each of
//! them decides where credentials go and which bytes are believed.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::auth::{Challenge, parse_challenges};
use crate::registry::credentials::{self, Credential, CredentialError};
use crate::registry::manifest::{ACCEPT, MAX_DOCUMENT};
use crate::registry::{RegistrySettings, retry};
use crate::store::Retry;

/// Most redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// Rounds of authorisation for one request: none yet, then one that may have expired, then a fresh one.
const AUTH_ROUNDS: usize = 3;
/// Largest answer of a token server, in bytes.
const MAX_TOKEN: u64 = 1 << 20;
/// Largest error text that is read, in bytes.
const MAX_ERROR_TEXT: u64 = 4 << 10;
/// What we call ourselves.
const USER_AGENT: &str = concat!("walt/", env!("CARGO_PKG_VERSION"));

/// Why something was not fetched.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// Worth another attempt, after `retry_after` if the registry says so.
    Transient { cause: String, retry_after: Option<Duration> },
    /// Given up after this many attempts.
    GivenUp { attempts: u32, cause: String },
    /// There is no such thing.
    NotFound,
    /// No access with the credentials that we have.
    Denied(String),
    /// An answer that makes no sense here.
    Protocol(String),
    /// Credentials cannot be read.
    Credentials(CredentialError),
}

/// A document as it came: a manifest or an index, not yet verified.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

/// One registry, one repository.
pub(crate) struct Client<'a> {
    reference: &'a Reference,
    settings: &'a RegistrySettings,
    http: reqwest::Client,
    base: OnceCell<Url>,
    authorization: Mutex<Option<HeaderValue>>,
    on_retry: &'a (dyn Fn(Retry) + Send + Sync),
}

impl<'a> Client<'a> {
    pub(crate) fn new(
        reference: &'a Reference,
        settings: &'a RegistrySettings,
        on_retry: &'a (dyn Fn(Retry) + Send + Sync),
    ) -> Result<Client<'a>, FetchError> {
        Ok(Client {
            http: http_client(reference, settings).map_err(|e| FetchError::Protocol(describe(&e)))?,
            reference,
            settings,
            base: OnceCell::new(),
            authorization: Mutex::new(None),
            on_retry,
        })
    }

    /// A manifest or an index, by tag or digest.
    pub(crate) async fn manifest(&self, key: &str) -> Result<Fetched, FetchError> {
        let path = format!("manifests/{key}");
        self.retry(|| async {
            let response = self.get(&path, &[(header::ACCEPT, ACCEPT)]).await?;
            let content_type =
                response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
            Ok(Fetched { bytes: read_all(response, MAX_DOCUMENT).await?, content_type })
        })
        .await
    }

    /// A small blob: the configuration.
    pub(crate) async fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        let path = format!("blobs/{digest}");
        self.retry(|| async { read_all(self.get(&path, &[]).await?, MAX_DOCUMENT).await }).await
    }

    /// Streams a blob of `size` bytes into `sink`, and goes on from where it was when the connection is lost.
    ///
    /// `sink` returns false when it wants no more. The bytes are not verified here.
    pub(crate) async fn blob<F>(
        &self,
        digest: &Digest,
        size: u64,
        mut sink: impl FnMut(Bytes) -> F,
    ) -> Result<(), FetchError>
    where
        F: Future<Output = bool>,
    {
        let path = format!("blobs/{digest}");
        let mut done = 0;
        let mut failures = retry::Failures::new(self.settings);
        loop {
            let before = done;
            match self.blob_from(&path, size, &mut done, &mut sink).await {
                Ok(()) => return Ok(()),
                Err(FetchError::Transient { cause, retry_after }) => {
                    failures.progressed(done - before);
                    self.pause(&mut failures, cause, retry_after).await?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    async fn blob_from<F>(
        &self,
        path: &str,
        size: u64,
        done: &mut u64,
        sink: &mut impl FnMut(Bytes) -> F,
    ) -> Result<(), FetchError>
    where
        F: Future<Output = bool>,
    {
        if *done >= size {
            return Ok(());
        }
        let range = format!("bytes={done}-");
        let headers: &[_] = if *done > 0 { &[(header::RANGE, range.as_str())] } else { &[] };
        let mut response = self.get(path, headers).await?;
        // A registry that does not know ranges starts from the beginning (RFC 9110 §14.2).
        let mut skip = match (response.status(), *done) {
            (StatusCode::PARTIAL_CONTENT, 1..) => {
                let start = range_start(response.headers());
                if start != Some(*done) {
                    return Err(FetchError::Protocol(format!("range from {done} asked, from {start:?} answered")));
                }
                0
            }
            (StatusCode::OK, done) => done,
            (status, _) => return Err(FetchError::Protocol(format!("status {status} for a blob"))),
        };
        while let Some(mut bytes) = response.chunk().await.map_err(|e| transient(&e))? {
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            let bytes = bytes.split_off(skipped as usize);
            *done += bytes.len() as u64;
            if !bytes.is_empty() && !sink(bytes).await {
                return Ok(());
            }
        }
        if *done < size {
            let cause = format!("the connection ended after {done} of {size} bytes");
            return Err(FetchError::Transient { cause, retry_after: None });
        }
        Ok(())
    }

    async fn retry<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, FetchError>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        let mut failures = retry::Failures::new(self.settings);
        loop {
            match attempt().await {
                Err(FetchError::Transient { cause, retry_after }) => {
                    self.pause(&mut failures, cause, retry_after).await?
                }
                result => return result,
            }
        }
    }

    async fn pause(
        &self,
        failures: &mut retry::Failures,
        cause: String,
        retry_after: Option<Duration>,
    ) -> Result<(), FetchError> {
        match failures.next(retry_after, retry::random()) {
            Some(pause) => {
                tracing::warn!(image = %self.reference, cause, pause = ?pause, "registry: trying again");
                (self.on_retry)(Retry { attempt: failures.count(), of: self.settings.attempts, pause, cause });
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(FetchError::GivenUp { attempts: failures.count(), cause }),
        }
    }

    /// GET below the repository, authorised as the registry asks for it.
    async fn get(&self, path: &str, headers: &[(header::HeaderName, &str)]) -> Result<reqwest::Response, FetchError> {
        let base = self.base.get_or_try_init(|| self.find_base()).await?;
        let url = base
            .join(&format!("{}/{path}", self.reference.repository()))
            .map_err(|e| FetchError::Protocol(e.to_string()))?;
        for _ in 0..AUTH_ROUNDS {
            let used = self.authorization.lock().await.clone();
            let response = self.send(url.clone(), headers, used.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return check(response).await;
            }
            self.authorize(base, &challenges(response.headers()), used).await?;
        }
        Err(FetchError::Denied("it keeps asking for authorisation".to_owned()))
    }

    /// Finds out whether the registry speaks https, and what authorisation it wants.
    ///
    /// OCI distribution spec, "Determining Support": `GET /v2/`.
    async fn find_base(&self) -> Result<Url, FetchError> {
        let host = self.reference.api_host();
        let mut failure = None;
        for scheme in ["https", "http"] {
            if scheme == "http" && !self.settings.may_be_plain(self.reference.registry()) {
                break;
            }
            let base =
                Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|e| FetchError::Protocol(e.to_string()))?;
            let response = match self.http.get(base.clone()).send().await {
                Ok(response) => response,
                Err(e) => {
                    failure = Some(e);
                    continue;
                }
            };
            // A plain-http port that got our TLS greeting never comes here; an https port that got plain http does.
            if response.status() == StatusCode::BAD_REQUEST && scheme == "http" {
                return Err(FetchError::Protocol("it speaks https, but its certificate is not valid here".to_owned()));
            }
            if response.status() == StatusCode::UNAUTHORIZED {
                self.authorize(&base, &challenges(response.headers()), None).await?;
            } else if is_transient(response.status()) {
                return check(response).await.map(|_| base);
            }
            return Ok(base);
        }
        Err(failure.map_or_else(|| FetchError::Protocol("no scheme to try".to_owned()), |e| transient(&e)))
    }

    /// Sends one request and follows redirects, without ever taking `authorization` to another origin.
    async fn send(
        &self,
        url: Url,
        headers: &[(header::HeaderName, &str)],
        authorization: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, FetchError> {
        let origin = url.origin();
        let mut url = url;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.http.get(url.clone());
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            if let Some(value) = authorization.filter(|_| url.origin() == origin) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let response = request.send().await.map_err(|e| transient(&e))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let target = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            let next = target.and_then(|t| url.join(t).ok());
            url = match next {
                Some(next) if next.scheme() == url.scheme() || next.scheme() == "https" => next,
                Some(next) => {
                    return Err(FetchError::Protocol(format!("redirect from {} to {}", url.scheme(), next.scheme())));
                }
                None => return Err(FetchError::Protocol("redirect to nowhere".to_owned())),
            };
        }
        Err(FetchError::Protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Gets what the registry asks for, unless another request of ours has done so since `used`.
    async fn authorize(
        &self,
        base: &Url,
        challenges: &[Challenge],
        used: Option<HeaderValue>,
    ) -> Result<(), FetchError> {
        let mut authorization = self.authorization.lock().await;
        if *authorization != used {
            return Ok(());
        }
        let credential = credentials::find(self.settings, self.reference).await.map_err(FetchError::Credentials)?;
        let bearer = challenges.iter().find(|c| c.scheme == "bearer");
        let value = match (bearer, credential) {
            (Some(challenge), credential) => {
                format!("Bearer {}", self.token(base, challenge, credential.as_ref()).await?)
            }
            (None, Some(Credential::Basic { user, password })) if challenges.iter().any(|c| c.scheme == "basic") => {
                let value = basic(&user, &password);
                if used.as_ref().is_some_and(|used| *used == value) {
                    return Err(FetchError::Denied(format!("wrong password for user {user}")));
                }
                value
            }
            (None, Some(_)) => return Err(FetchError::Denied("it takes no credentials that we have".to_owned())),
            (None, None) => return Err(FetchError::Denied("no credentials for it".to_owned())),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| FetchError::Protocol("a token with control characters".to_owned()))?;
        value.set_sensitive(true);
        *authorization = Some(value);
        Ok(())
    }

    /// Distribution's token protocol: GET with basic authentication or none, POST with a refresh token.
    async fn token(
        &self,
        base: &Url,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<String, FetchError> {
        let realm = challenge.param("realm").and_then(|r| Url::parse(r).ok());
        let Some(mut realm) = realm.filter(|r| r.scheme() == "https" || r.scheme() == base.scheme()) else {
            return Err(FetchError::Protocol("it names no token server that can be trusted".to_owned()));
        };
        let default_scope = format!("repository:{}:pull", self.reference.repository());
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(challenge.param("service").map(|s| ("service", s)));
        fields.push(("scope", challenge.param("scope").unwrap_or(&default_scope)));
        let request = match credential {
            Some(Credential::IdentityToken(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("client_id", "walt"), ("refresh_token", token)]);
                let mut form = realm.clone();
                form.query_pairs_mut().clear().extend_pairs(&fields);
                self.http
                    .post(realm)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            basic_or_none => {
                if let Some(Credential::Basic { user, .. }) = basic_or_none {
                    fields.push(("account", user));
                }
                realm.query_pairs_mut().extend_pairs(&fields);
                match basic_or_none {
                    Some(Credential::Basic { user, password }) => {
                        self.http.get(realm).header(header::AUTHORIZATION, basic(user, password))
                    }
                    _ => self.http.get(realm),
                }
            }
        };
        let response = request.send().await.map_err(|e| transient(&e))?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let said = if credential.is_some() { "our credentials are refused" } else { "anonymous access is refused" };
            return Err(FetchError::Denied(said.to_owned()));
        }
        let json = read_all(check(response).await?, MAX_TOKEN).await?;
        let answer: TokenAnswer = serde_json::from_slice(&json)
            .map_err(|e| FetchError::Protocol(format!("the token server's answer is malformed: {e}")))?;
        answer
            .token
            .or(answer.access_token)
            .filter(|t| !t.is_empty())
            .ok_or_else(|| FetchError::Protocol("the token server's answer holds no token".to_owned()))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

fn http_client(reference: &Reference, settings: &RegistrySettings) -> reqwest::Result<reqwest::Client> {
    // reqwest takes the process's default; if the program has chosen one already, that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.idle_timeout);
    // A registry on this machine is never behind a proxy, whatever the environment says.
    if RegistrySettings::is_loopback(reference.registry()) { builder.no_proxy().build() } else { builder.build() }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    parse_challenges(headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()))
}

/// First byte in `Content-Range: bytes 5-9/10` (RFC 9110 §14.4).
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// An answer that is none of the good ones becomes an error that holds what the registry said.
async fn check(response: reqwest::Response) -> Result<reqwest::Response, FetchError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status == StatusCode::NOT_FOUND {
        return Err(FetchError::NotFound);
    }
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let text = read_all(response, MAX_ERROR_TEXT).await.unwrap_or_default();
    let said = error_text(&text);
    let cause = if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") };
    Err(match status {
        _ if is_transient(status) => FetchError::Transient { cause, retry_after: retry_after.map(Duration::from_secs) },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::Denied(cause),
        _ => FetchError::Protocol(cause),
    })
}

/// OCI distribution spec, "Error Codes": `{"errors": [{"code": ..., "message": ...}]}`.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(parsed) = serde_json::from_slice::<Errors>(body) else { return String::new() };
    let texts: Vec<String> = parsed.errors.iter().map(|e| format!("{} {}", e.code, e.message)).collect();
    texts.join(", ").chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The whole body, if it is not larger than `limit` bytes.
async fn read_all(mut response: reqwest::Response, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|e| transient(&e))? {
        if (body.len() + bytes.len()) as u64 > limit {
            return Err(FetchError::Protocol(format!("an answer of more than {limit} bytes")));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

fn transient(error: &reqwest::Error) -> FetchError {
    FetchError::Transient { cause: describe(error), retry_after: None }
}

/// The whole chain of causes: reqwest's own text names only the URL.
fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_range() {
        let start = |value: &'static str| {
            range_start(&HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(value))]))
        };
        assert_eq!(start("bytes 5-9/10"), Some(5));
        assert_eq!(start("bytes */10"), None);
        assert_eq!(start("5-9/10"), None);
        assert_eq!(range_start(&HeaderMap::new()), None);
    }

    #[test]
    fn reads_error_texts() {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\ndown","detail":{}}]}"#;
        assert_eq!(error_text(body), "TOOMANYREQUESTS slowdown");
        assert_eq!(error_text(b"<html>"), "");
    }
}
