//! The API's description, made from its types and handlers.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{images, logs, machines, nodes, power};
use crate::web;

#[derive(OpenApi)]
#[openapi(
    info(title = "WalT control API", description = "How `walt` speaks to walt-server-daemon, on its Unix socket; over the network with a token. What is below /api/, and /metrics, is the web API: it is read over the network without one."),
    paths(
        super::status,
        super::user,
        nodes::lease,
        nodes::list,
        nodes::show,
        nodes::trace,
        nodes::wait,
        nodes::boot,
        machines::create,
        machines::console,
        power::reboot,
        nodes::rename,
        nodes::forget,
        nodes::blink,
        nodes::configure,
        logs::show,
        logs::checkpoints,
        logs::add_checkpoint,
        logs::remove_checkpoint,
        images::list,
        images::clone,
        images::import,
        images::export,
        images::remove,
        images::files,
        images::content,
        web::nodes::list,
        web::images::list,
        web::logs::show,
        web::events::follow,
        web::metrics::show,
    ),
    components(schemas(api::Snapshot, api::NodeNews, api::Forgotten)),
    modifiers(&Tokens)
)]
struct Document;

/// How a request over the network shows its token.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The OpenAPI document; `docs/openapi.json` is the same.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
