//! The control API: HTTP and JSON on a Unix socket. `walt` and `walt-dhcp-event` are its clients.

mod answer;
mod caller;
mod follow;
mod images;
mod logs;
mod machines;
mod nodes;
mod openapi;
mod power;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use api::{Status, User};
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::routing::{delete, get, post};
use axum::{Json, extract::FromRef};

pub use caller::Caller;
pub use openapi::document;
pub use socket::{SocketError, bind};

use crate::site::Site;

/// Largest body of a request that is JSON, in bytes.
const MAX_JSON: usize = 64 * 1024;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Control {
    /// Nodes and images.
    pub site: Arc<Site>,
    /// What `status` tells of the daemon itself.
    pub about: Arc<About>,
}

/// What `status` tells of the daemon itself.
pub struct About {
    /// When it became ready.
    pub since: Instant,
    /// Interface that nodes are on.
    pub interface: String,
    /// Address that nodes know it by.
    pub address: String,
    /// Reads the counters of the services.
    pub counters: Box<dyn Fn() -> std::collections::BTreeMap<String, u64> + Send + Sync>,
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("About").field("interface", &self.interface).finish_non_exhaustive()
    }
}

impl FromRef<Control> for Arc<Site> {
    fn from_ref(control: &Control) -> Self {
        control.site.clone()
    }
}

/// All routes.
pub fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/leases", post(nodes::lease))
        .route("/v1/nodes", get(nodes::list).post(machines::create))
        .route("/v1/nodes/{node}", get(nodes::show).delete(nodes::forget))
        .route("/v1/nodes/{node}/rename", post(nodes::rename))
        .route("/v1/nodes/{node}/blink", post(nodes::blink))
        .route("/v1/nodes/{node}/config", post(nodes::configure))
        .route("/v1/user", get(user))
        .route("/v1/nodes/{node}/trace", get(nodes::trace))
        .route("/v1/nodes/{node}/wait", get(nodes::wait))
        .route("/v1/nodes/{node}/boot", post(nodes::boot))
        .route("/v1/nodes/{node}/reboot", post(power::reboot))
        .route("/v1/nodes/{node}/console", get(machines::console))
        .route("/v1/logs", get(logs::show))
        .route("/v1/checkpoints", get(logs::checkpoints).post(logs::add_checkpoint))
        .route("/v1/checkpoints/{name}", delete(logs::remove_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .route("/v1/images", get(images::list).delete(images::remove))
        .route("/v1/images/clone", post(images::clone))
        .route("/v1/images/import", post(images::import).layer(DefaultBodyLimit::disable()))
        .route("/v1/images/export", get(images::export))
        .route("/v1/images/files", get(images::files))
        .route("/v1/images/content", get(images::content))
        .route("/openapi.json", get(async || Json(document())))
        .fallback(answer::no_such_route)
        .with_state(control)
}

/// Who asks, as the server knows it.
#[utoipa::path(get, path = "/v1/user", responses((status = 200, body = User)))]
pub(crate) async fn user(ConnectInfo(caller): ConnectInfo<Caller>) -> Result<Json<User>, answer::Refused> {
    Ok(Json(User { name: caller.user().await? }))
}

/// The daemon itself.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(crate) async fn status(State(control): State<Control>) -> Json<Status> {
    let about = &control.about;
    let mut counters = (about.counters)();
    counters.insert("registry.dropped".into(), control.site.registry().dropped());
    Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: about.since.elapsed().as_secs(),
        interface: about.interface.clone(),
        address: about.address.clone(),
        counters,
    })
}
