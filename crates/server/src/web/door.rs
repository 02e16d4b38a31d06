//! Where requests come in: which router gets them, and who must show a token.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use api::{Problem, ProblemKind};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use net::http::{Answering, Handler, HandlerBody};
use tower_service::Service;

use super::{Peer, Tokens, Web};
use crate::control::{self, Caller, Refused, problem};
use crate::site::now_ms;
use crate::supervise::panic_message;

/// Least time between two lines of the log about tokens that are refused.
const QUIET_MS: i64 = 1000;

/// What all doors share.
#[derive(Debug)]
pub(crate) struct Doors {
    open: Router,
    control: Router,
    tokens: Option<Tokens>,
    denied: Arc<AtomicU64>,
    last_told_ms: AtomicI64,
}

/// A place where requests come in.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// The nodes' address: the web API alone.
    Nodes(Arc<Doors>),
    /// An address of the web API: the control API, too, for those who have a token.
    Web(Arc<Doors>),
    /// The address of the control API: nothing without a token.
    Control(Arc<Doors>),
}

impl Doors {
    /// `denied` counts requests that were refused for want of a token.
    pub(crate) fn new(web: Web, tokens: Option<Tokens>, denied: Arc<AtomicU64>) -> Arc<Self> {
        let control = control::router(web.control.clone());
        Arc::new(Self { open: web.router(), control, tokens, denied, last_told_ms: AtomicI64::new(0) })
    }

    /// Who asks, by the token of the request.
    fn caller(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(tokens) = &self.tokens else {
            let hint = "the server's administrator can give users tokens with `web.token_file`";
            return Err(problem(ProblemKind::Unauthorized, "nothing can be changed over the network", Some(hint)));
        };
        let hint = "send `Authorization: Bearer TOKEN`, with a token from the server's `web.token_file`";
        let Some(field) = headers.get(AUTHORIZATION) else {
            return Err(problem(ProblemKind::Unauthorized, "this needs a token", Some(hint)));
        };
        // RFC 6750 §2.1; RFC 9110 §11.1: the scheme's case does not matter.
        let token = field.to_str().ok().and_then(|text| text.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        match token.and_then(|token| tokens.user_of(token)) {
            Some(user) => Ok(Caller::named(user)),
            None => {
                let (now, last) = (now_ms(), self.last_told_ms.load(Ordering::Relaxed));
                if (now - last).abs() >= QUIET_MS {
                    self.last_told_ms.store(now, Ordering::Relaxed);
                    tracing::warn!(client = %peer.ip(), "a request with a token that nobody has is refused");
                }
                Err(problem(ProblemKind::Unauthorized, "nobody has this token", Some(hint)))
            }
        }
    }

    async fn answer(&self, peer: SocketAddr, request: Request<Incoming>, is_guarded: bool) -> Response<Body> {
        let mut request = request.map(Body::new);
        let path = request.uri().path();
        let is_control = path.starts_with("/v1/") || path == "/openapi.json";
        if is_guarded || is_control {
            match self.caller(peer, request.headers()) {
                Ok(caller) => drop(request.extensions_mut().insert(ConnectInfo(caller))),
                Err(problem) => {
                    self.denied.fetch_add(1, Ordering::Relaxed);
                    // RFC 6750 §3.
                    let challenge = HeaderValue::from_static("Bearer realm=\"walt\"");
                    return ([(WWW_AUTHENTICATE, challenge)], Refused(problem)).into_response();
                }
            }
        }
        request.extensions_mut().insert(Peer(peer.ip()));
        let mut router = if is_control { self.control.clone() } else { self.open.clone() };
        // A fault in an answer is this request's alone: boot files come over connections of the same server.
        match AssertUnwindSafe(async move { router.call(request).await }).catch_unwind().await {
            // A router is always ready, and has no errors.
            Ok(answered) => answered.unwrap_or_else(|never| match never {}),
            Err(panic) => {
                let message = format!("a fault of the server itself: {}", panic_message(&*panic));
                tracing::error!(%peer, message, "a request was not answered");
                Refused(problem(ProblemKind::Internal, message, None)).into_response()
            }
        }
    }
}

impl Handler for Door {
    fn takes(&self, path: &str) -> bool {
        path == "/metrics" || path.starts_with("/api/")
    }

    fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Answering<'_> {
        let (doors, is_guarded) = match self {
            Self::Nodes(doors) | Self::Web(doors) => (doors, false),
            Self::Control(doors) => (doors, true),
        };
        Box::pin(async move {
            let response = doors.answer(peer, request, is_guarded).await;
            response.map(|body| -> HandlerBody { Box::pin(body.map_err(Into::into)) })
        })
    }
}
