//! Reboots.

use std::sync::Arc;

use api::{Problem, ProblemKind, RebootWay, Rebooted};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::answer::{Refused, problem};
use super::nodes::gone;
use crate::devices::{Devices, Way};
use crate::nodes::{RequestError, ask};
use crate::registry::DeviceRow;
use crate::site::Site;
use crate::timeline::Seen;

#[derive(Debug, Deserialize)]
pub(crate) struct How {
    #[serde(default)]
    hard: bool,
}

/// Has the node reboot: its OS is asked; if it does not answer, or `hard` is wanted, its machine is reset or its power is cut,
/// if there is a way.
#[utoipa::path(post, path = "/v1/nodes/{node}/reboot",
    params(("node" = String, Path, description = "name, mac or ip"),
           ("hard" = Option<bool>, Query, description = "do not ask its OS")),
    responses((status = 200, body = Rebooted), (status = 404, body = Problem), (status = 502, body = Problem)))]
pub(crate) async fn reboot(
    State(site): State<Arc<Site>>,
    State(devices): State<Arc<Devices>>,
    Path(name): Path<String>,
    Query(how): Query<How>,
) -> Result<Json<Rebooted>, Refused> {
    let node = {
        let state = site.state();
        let mac = state.registrar.find_node(&name)?;
        state.registrar.device(mac).ok_or_else(|| gone(mac))?.row.clone()
    };
    let soft_failure = if how.hard { None } else { soft(&site, &node).await? };
    if soft_failure.is_none() && !how.hard {
        return Ok(Json(Rebooted { node: node.name, way: RebootWay::Soft, detail: None, soft_failure: None }));
    }
    let (way, detail) = match hard(&site, &devices, &node).await {
        Ok(done) => done,
        Err(Problem { kind, message, hint }) => {
            let message = match soft_failure {
                Some(cause) => format!("{} can not be rebooted: {cause}; {message}", node.name),
                None => message,
            };
            return Err(Problem { kind, message, hint }.into());
        }
    };
    site.see(node.mac, &Seen::RebootRequested);
    Ok(Json(Rebooted { node: node.name, way, detail, soft_failure }))
}

/// Sends a magic packet to a device that is off.
#[utoipa::path(post, path = "/v1/nodes/{node}/wake", params(("node" = String, Path, description = "name, mac or ip")),
    responses((status = 204), (status = 404, body = Problem), (status = 500, body = Problem)))]
pub(crate) async fn wake(
    State(site): State<Arc<Site>>,
    State(devices): State<Arc<Devices>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    devices.wake(mac).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks its OS; what is given back is why it did not answer.
async fn soft(site: &Site, node: &DeviceRow) -> Result<Option<String>, Problem> {
    match ask(node.ip, wire::node::Request::Reboot).await {
        Ok(()) => {
            site.see(node.mac, &Seen::RebootRequested);
            Ok(None)
        }
        Err(RequestError::Refused { reason, .. }) => {
            let message = format!("{} refuses to reboot: {reason}", node.name);
            Err(problem(ProblemKind::Unreachable, message, Some("`walt node reboot --hard` does not ask it")))
        }
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// Reboots it without its OS: how, and by what.
async fn hard(site: &Site, devices: &Arc<Devices>, node: &DeviceRow) -> Result<(RebootWay, Option<String>), Problem> {
    if site.machines().reset(node.mac).await? {
        return Ok((RebootWay::Reset, None));
    }
    let way = devices.power_cycle(node.mac).await?;
    let kind = match way {
        Way::Port { .. } => RebootWay::Port,
        Way::Hook(_) => RebootWay::Hook,
        Way::Wake => RebootWay::Wake,
    };
    Ok((kind, Some(way.to_string())))
}
