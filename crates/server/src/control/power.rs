//! Reboots.

use std::sync::Arc;

use api::{Problem, ProblemKind, RebootWay, Rebooted};
use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::answer::{Refused, problem};
use super::nodes::gone;
use crate::nodes::{RequestError, ask};
use crate::registry::DeviceRow;
use crate::site::Site;
use crate::timeline::Seen;

#[derive(Debug, Deserialize)]
pub(crate) struct How {
    #[serde(default)]
    hard: bool,
}

/// Has the node reboot: its OS is asked; if it does not answer, or `hard` is wanted, the machine is reset if there is a way.
#[utoipa::path(post, path = "/v1/nodes/{node}/reboot",
    params(("node" = String, Path, description = "name, mac or ip"),
           ("hard" = Option<bool>, Query, description = "do not ask its OS")),
    responses((status = 200, body = Rebooted), (status = 404, body = Problem), (status = 502, body = Problem)))]
pub(crate) async fn reboot(
    State(site): State<Arc<Site>>,
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
        return Ok(Json(Rebooted { node: node.name, way: RebootWay::Soft, soft_failure: None }));
    }
    match hard(&site, &node).await? {
        Some(way) => {
            site.see(node.mac, &Seen::RebootRequested);
            Ok(Json(Rebooted { node: node.name, way, soft_failure }))
        }
        None => {
            let message = match soft_failure {
                Some(cause) => format!("{} can not be rebooted: {cause}", node.name),
                None => format!("there is no way to reboot {} by force", node.name),
            };
            let hint = "it is off, still booting, or hangs: switch it off and on";
            Err(problem(ProblemKind::Unreachable, message, Some(hint)).into())
        }
    }
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

/// Reboots it without its OS, if there is a way.
async fn hard(site: &Site, node: &DeviceRow) -> Result<Option<RebootWay>, Problem> {
    Ok(site.machines().reset(node.mac).await?.then_some(RebootWay::Reset))
}
