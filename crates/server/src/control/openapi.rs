//! The API's description, made from its types and handlers.

use utoipa::OpenApi;

use super::{images, logs, machines, nodes, power};

#[derive(OpenApi)]
#[openapi(
    info(title = "WalT control API", description = "How `walt` speaks to walt-server-daemon, on its Unix socket."),
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
    )
)]
struct Document;

/// The OpenAPI document; `docs/openapi.json` is the same.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
