//! `/api/v1/nodes`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use api::{NodeState, Problem, WebNode, WebNodes};
use axum::Json;
use axum::extract::{Query, State};
use net::MacAddr;

use super::query::{Filters, meant_image, shown_image, shown_ip};
use crate::control::Refused;
use crate::registration::config;
use crate::site::{Site, now_ms};

const FILTERS: [&str; 7] = ["name", "model", "virtual", "image", "booted", "ip", "mac"];

/// Nodes.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "web",
    params(("name" = Option<String>, Query, description = "the one of this name"),
           ("model" = Option<String>, Query, description = "those of this model"),
           ("virtual" = Option<bool>, Query, description = "those that the server itself runs, or the others"),
           ("image" = Option<String>, Query, description = "those that are to boot this image"),
           ("booted" = Option<bool>, Query, description = "those that are up, or the others"),
           ("ip" = Option<String>, Query, description = "the one with this IPv4 address"),
           ("mac" = Option<String>, Query, description = "the one with this Ethernet address")),
    responses((status = 200, body = WebNodes), (status = 400, body = Problem)))]
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<WebNodes>, Refused> {
    let filters = Filters::new(query, &FILTERS)?;
    let (is_virtual, booted) = (filters.boolean("virtual")?, filters.boolean("booted")?);
    let ip = filters.value("ip", "an IPv4 address", |text| text.parse::<Ipv4Addr>().ok())?;
    let mac = filters.value("mac", "an Ethernet address", |text| text.parse::<MacAddr>().ok())?;
    let image = filters.text("image").map(meant_image);
    let now = now_ms();
    let state = site.state();
    let nodes = state.registrar.devices().filter_map(|device| {
        let row = &device.row;
        let model = row.model.clone()?;
        let is_booted = state.timeline(row.mac).is_some_and(|timeline| timeline.state(now) == NodeState::Booted);
        let is_wanted = filters.text("name").is_none_or(|name| row.name == name)
            && filters.text("model").is_none_or(|wanted| model == wanted)
            && is_virtual.is_none_or(|wanted| row.is_virtual == wanted)
            && (image.is_none() || image == row.image)
            && booted.is_none_or(|wanted| is_booted == wanted)
            && ip.is_none_or(|ip| row.ip == ip)
            && mac.is_none_or(|mac| row.mac == mac);
        is_wanted.then(|| WebNode {
            name: row.name.clone(),
            model,
            is_virtual: row.is_virtual,
            image: row.image.as_deref().map(shown_image),
            booted: is_booted,
            ip: shown_ip(row.ip),
            mac: row.mac.to_string(),
            config: config::effective(row),
        })
    });
    let nodes: Vec<_> = nodes.collect();
    Ok(Json(WebNodes { num_nodes: nodes.len(), nodes }))
}
