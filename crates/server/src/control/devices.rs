//! Devices, nodes or not, and how they hang together.

use std::sync::Arc;

use api::{Device, Explored, Problem, Tree};
use axum::Json;
use axum::extract::{ConnectInfo, Query, State};
use net::MacAddr;
use serde::Deserialize;

use super::answer::Refused;
use super::caller::Caller;
use crate::devices::{Devices, SERVER};
use crate::site::Site;

#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    set: Option<String>,
}

/// All devices, the server among them.
#[utoipa::path(get, path = "/v1/devices",
    params(("set" = Option<String>, Query, description = "those of a set, such as `switch-1,server` or `all-switches`")),
    responses((status = 200, body = Vec<Device>), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    State(devices): State<Arc<Devices>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Device>>, Refused> {
    let Some(set) = &which.set else {
        let all: Vec<MacAddr> = site.state().registrar.devices().map(|device| device.row.mac).collect();
        let server = std::iter::once(devices.server());
        return Ok(Json(server.chain(all.into_iter().filter_map(|mac| devices.show(mac))).collect()));
    };
    let (server, others): (Vec<_>, Vec<_>) = set.split(',').map(str::trim).partition(|name| is_server(name));
    let mut found: Vec<Device> = server.first().map(|_| devices.server()).into_iter().collect();
    if !others.is_empty() {
        let user = caller.user().await?;
        let macs = site.state().registrar.find_set(&others.join(","), &user)?;
        found.extend(macs.into_iter().filter_map(|mac| devices.show(mac)));
    }
    Ok(Json(found))
}

/// The network, from the server down.
#[utoipa::path(get, path = "/v1/devices/tree", responses((status = 200, body = Tree)))]
pub(crate) async fn tree(State(devices): State<Arc<Devices>>) -> Json<Tree> {
    Json(devices.tree())
}

/// Asks all switches now what hangs on them.
#[utoipa::path(post, path = "/v1/devices/rescan", responses((status = 200, body = Vec<Explored>)))]
pub(crate) async fn rescan(State(devices): State<Arc<Devices>>) -> Json<Vec<Explored>> {
    Json(devices.rescan().await)
}

fn is_server(name: &str) -> bool {
    [SERVER, "server"].contains(&name)
}
