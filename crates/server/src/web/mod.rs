//! The web API: what other systems read over the network, and where users with a token command the platform.
//!
//! Reading needs no token, as with WalT: `/api/v1/nodes`, `/api/v1/images`, `/api/v1/logs`, `/api/v1/events` and
//! `/metrics`. All else is the control API, and needs one.

mod door;
pub(crate) mod events;
mod exposition;
pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod metrics;
mod news;
pub(crate) mod nodes;
mod query;
mod seats;
mod sockets;
#[cfg(test)]
mod tests;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use api::{Problem, ProblemKind};
use axum::extract::FromRef;
use axum::http::header::ALLOW;
use axum::http::{Method, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use crate::control::{self, Control, Refused, problem};
use crate::site::Site;

use door::{Door, Doors};
use news::News;
use seats::Seats;
pub(crate) use sockets::WebSockets;
pub use tokens::{TokenError, Tokens};

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    control: Control,
    news: Arc<News>,
    readers: Arc<Seats>,
    listeners: Arc<Seats>,
}

/// Address of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(IpAddr);

impl Web {
    fn new(control: Control, news: Arc<News>) -> Self {
        // Each reader has a thread at work on the disk, and some MB of lines.
        Self { control, news, readers: Seats::new(8, 4), listeners: Seats::new(128, 16) }
    }

    /// What can be read without a token.
    fn router(self) -> Router {
        Router::new()
            .route("/api/v1/nodes", get(nodes::list))
            .route("/api/v1/images", get(images::list))
            .route("/api/v1/logs", get(logs::show))
            .route("/api/v1/events", get(events::follow))
            .route("/metrics", get(metrics::show))
            .route("/api/openapi.json", get(async || Json(control::document())))
            .method_not_allowed_fallback(read_only)
            .fallback(no_such_route)
            .with_state(self)
    }
}

impl FromRef<Web> for Arc<Site> {
    fn from_ref(web: &Web) -> Self {
        web.control.site.clone()
    }
}

async fn read_only(method: Method, uri: Uri) -> impl IntoResponse {
    let message = format!("{} can be read, not {method}", uri.path());
    let hint = "the control API changes things, below /v1/, with a token";
    ([(ALLOW, "GET, HEAD")], Refused(problem(ProblemKind::ReadOnly, message, Some(hint))))
}

async fn no_such_route(uri: Uri) -> Refused {
    let message = format!("there is no {} in the web API", uri.path());
    let hint = "there are /api/v1/nodes, /api/v1/images, /api/v1/logs, /api/v1/events and /metrics; /api/openapi.json describes them";
    Refused(problem(ProblemKind::UnknownPath, message, Some(hint)))
}

/// All places are taken.
fn busy(what: &str) -> Problem {
    let message = format!("so many clients read {what} that there is no place for another one");
    problem(ProblemKind::Busy, message, Some("try again later, or end another one"))
}
