//! Logging in to nodes with the server's key.

use std::sync::Arc;

use api::SshHost;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::site::Site;
use crate::ssh_agent;

/// The host key of all nodes.
#[utoipa::path(get, path = "/v1/ssh/host", responses((status = 200, body = SshHost)))]
pub(crate) async fn host(State(site): State<Arc<Site>>) -> Json<SshHost> {
    let key = site.images().identity().host_keys().openssh_public.trim().to_owned();
    Json(SshHost { key })
}

/// An ssh agent (draft-ietf-sshm-ssh-agent): a message in, its answer out, both without their length. It has the
/// server's key, and signs logins to nodes with it.
#[utoipa::path(post, path = "/v1/ssh/agent",
    request_body(content_type = "application/octet-stream", description = "a message to an ssh agent"),
    responses((status = 200, content_type = "application/octet-stream")))]
pub(crate) async fn agent(State(site): State<Arc<Site>>, message: Bytes) -> Response {
    let identity = site.images().identity();
    let answer = ssh_agent::answer(identity.server_key(), identity.host_keys(), &message);
    ([(CONTENT_TYPE, "application/octet-stream")], answer).into_response()
}
