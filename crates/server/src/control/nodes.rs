//! Nodes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{
    BlinkRequest, BootRequest, ConfigRequest, LeaseReport, Node, NodeKind, NodeState, Problem, ProblemKind, Progress,
    Registration, RenameRequest, Trace,
};
use axum::Json;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use net::{LeaseEvent, MacAddr};
use serde::Deserialize;

use super::answer::{Refused, problem};
use super::caller::Caller;
use super::follow::{Standing, follow};
use crate::nodes::ask;
use crate::registration::{Device, Input, Owner, config};
use crate::site::{self, Site, now_ms};
use crate::timeline::Seen;

/// Longest that a client may wait for a node.
const MAX_WAIT_S: u64 = 24 * 3600;

#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    #[serde(default)]
    all: bool,
    set: Option<String>,
}

/// Nodes, or all devices.
#[utoipa::path(get, path = "/v1/nodes",
    params(("all" = Option<bool>, Query, description = "unknown devices, too"),
           ("set" = Option<String>, Query, description = "those of a set, such as `n1,n2` or `my-nodes`")),
    responses((status = 200, body = Vec<Node>), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Node>>, Refused> {
    if let Some(set) = &which.set {
        let user = caller.user().await?;
        let state = site.state();
        let found = state.registrar.find_set(set, &user)?;
        let devices = found.into_iter().filter_map(|mac| state.registrar.device(mac));
        return Ok(Json(devices.map(|device| node(&site, &state, device)).collect()));
    }
    let state = site.state();
    let devices = state.registrar.devices().filter(|device| which.all || device.row.model.is_some());
    Ok(Json(devices.map(|device| node(&site, &state, device)).collect()))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{node}", params(("node" = String, Path, description = "name, mac or ip")),
    responses((status = 200, body = Node), (status = 404, body = Problem)))]
pub(crate) async fn show(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Result<Json<Node>, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    Ok(Json(node_of(&site, mac)?))
}

/// The timeline of a node's last boot.
#[utoipa::path(get, path = "/v1/nodes/{node}/trace", params(("node" = String, Path, description = "name, mac or ip")),
    responses((status = 200, body = Trace), (status = 404, body = Problem)))]
pub(crate) async fn trace(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Result<Json<Trace>, Refused> {
    let state = site.state();
    let mac = state.registrar.find_node(&name)?;
    let device = state.registrar.device(mac).ok_or_else(|| gone(mac))?;
    let timeline = state.timeline(mac);
    let Some((timeline, (started_at_ms, steps))) = timeline.and_then(|t| Some((t, t.steps()?))) else {
        let message = format!("no boot of {} has been seen", device.row.name);
        return Err(problem(ProblemKind::UnknownNode, message, Some("power it on")).into());
    };
    let now = now_ms();
    Ok(Json(Trace {
        node: device.row.name.clone(),
        started_at_ms,
        state: timeline.state(now),
        steps: steps.collect(),
        stuck: timeline.stuck(now, &state.registrar.registration(device)),
    }))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Patience {
    timeout_s: Option<u64>,
}

/// Waits until the node is booted.
#[utoipa::path(get, path = "/v1/nodes/{node}/wait",
    params(("node" = String, Path, description = "name, mac or ip"),
           ("timeout_s" = Option<u64>, Query, description = "seconds to wait, at most a day; default: a day")),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"), (status = 404, body = Problem)))]
pub(crate) async fn wait(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Query(patience): Query<Patience>,
) -> Result<Response, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    let limit = Duration::from_secs(patience.timeout_s.unwrap_or(MAX_WAIT_S).min(MAX_WAIT_S));
    let begun = Instant::now();
    Ok(follow(site, move |site| {
        let state = site.state();
        let Some(device) = state.registrar.device(mac) else { return Standing::Failed(gone(mac)) };
        let node = node(site, &state, device);
        if node.state == NodeState::Booted {
            return Standing::Done(format!("{} is booted", node.name));
        }
        if begun.elapsed() >= limit {
            let message = format!("{} is still {} after {} s", node.name, standing(&node), limit.as_secs());
            let hint = format!("`walt node trace {}` shows how far it came", node.name);
            return Standing::Failed(Problem { kind: ProblemKind::Timeout, message, hint: Some(hint) });
        }
        Standing::Going(Progress::Step { text: format!("{} is {}", node.name, standing(&node)) })
    }))
}

/// Has the node boot another image from now on, and waits until this is ready.
#[utoipa::path(post, path = "/v1/nodes/{node}/boot", params(("node" = String, Path, description = "name, mac or ip")),
    request_body = BootRequest,
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"),
              (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn boot(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Json(request): Json<BootRequest>,
) -> Result<Response, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    site.request(Input::Boot { node: name, image: request.image }).await?;
    Ok(follow(site, move |site| {
        let node = match node_of(site, mac) {
            Ok(node) => node,
            Err(problem) => return Standing::Failed(problem),
        };
        let image = node.image.clone().unwrap_or_default();
        match &node.registration {
            Registration::Ready => Standing::Done(format!("{} boots {image} from now on", node.name)),
            Registration::Pulling { done, total, trouble: None } => {
                Standing::Going(Progress::Bytes { done: *done, total: *total })
            }
            Registration::Pulling { trouble: Some(trouble), .. } => {
                Standing::Going(Progress::Step { text: format!("the registry is asked again: {trouble}") })
            }
            Registration::Failed { step, cause, .. } => Standing::Failed(problem(
                ProblemKind::UnsuitableImage,
                format!("{} can not boot {image}: {step}: {cause}", node.name),
                Some("it goes on to boot what it booted before"),
            )),
            Registration::NotANode | Registration::Preparing => {
                Standing::Going(Progress::Step { text: format!("{image} is being prepared") })
            }
        }
    }))
}

/// Gives a device another name.
#[utoipa::path(post, path = "/v1/nodes/{node}/rename", params(("node" = String, Path, description = "name, mac or ip")),
    request_body = RenameRequest,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn rename(
    State(site): State<Arc<Site>>,
    Path(device): Path<String>,
    Json(request): Json<RenameRequest>,
) -> Result<StatusCode, Refused> {
    let mac = site.state().registrar.find_node(&device)?;
    let old = node_of(&site, mac)?.name;
    site.request(Input::Rename { device: mac.to_string(), name: request.name.clone() }).await?;
    site.tell(format!("{old} is called {} from now on", request.name));
    Ok(StatusCode::NO_CONTENT)
}

/// Changes settings of a device: all that are named, or none if one of them makes no sense.
#[utoipa::path(post, path = "/v1/nodes/{node}/config", params(("node" = String, Path, description = "name, mac or ip")),
    request_body = ConfigRequest,
    responses((status = 200, body = Node), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn configure(
    State(site): State<Arc<Site>>,
    Path(device): Path<String>,
    Json(request): Json<ConfigRequest>,
) -> Result<Json<Node>, Refused> {
    let mac = site.state().registrar.find_node(&device)?;
    site.request(Input::Configure { device: mac.to_string(), changes: request.settings.clone() }).await?;
    let node = node_of(&site, mac)?;
    for (key, value) in &request.settings {
        let value = if value.is_empty() { "its default" } else { value };
        site.tell(format!("{key} of {} is {value} from now on", node.name));
    }
    Ok(Json(node))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Insistence {
    #[serde(default)]
    force: bool,
}

/// Forgets a device, which must be off: one that is up is served no more.
#[utoipa::path(delete, path = "/v1/nodes/{node}",
    params(("node" = String, Path, description = "name, mac or ip"),
           ("force" = Option<bool>, Query, description = "even if it is up")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn forget(
    State(site): State<Arc<Site>>,
    Path(device): Path<String>,
    Query(insistence): Query<Insistence>,
) -> Result<StatusCode, Refused> {
    let mac = site.state().registrar.find_node(&device)?;
    let node = node_of(&site, mac)?;
    // Whoever removes a virtual node means its machine, too.
    if !node.is_virtual
        && matches!(node.state, NodeState::Booting | NodeState::Booted)
        && node.model.is_some()
        && !insistence.force
    {
        let message = format!("{} is {}: what it runs on would be taken away from it", node.name, standing(&node));
        let hint = "switch it off first, or insist with --force; it comes back as a new node when it boots again";
        return Err(problem(ProblemKind::InUse, message, Some(hint)).into());
    }
    site.request(Input::Forget { device: mac.to_string() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a node show which one it is, by its image's `/bin/blink`.
#[utoipa::path(post, path = "/v1/nodes/{node}/blink", params(("node" = String, Path, description = "name, mac or ip")),
    request_body = BlinkRequest,
    responses((status = 204), (status = 404, body = Problem), (status = 502, body = Problem)))]
pub(crate) async fn blink(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    Json(request): Json<BlinkRequest>,
) -> Result<StatusCode, Refused> {
    let mac = site.state().registrar.find_node(&name)?;
    let (name, ip) = {
        let state = site.state();
        let row = &state.registrar.device(mac).ok_or_else(|| gone(mac))?.row;
        (row.name.clone(), row.ip)
    };
    ask(ip, wire::node::Request::Blink(request.on)).await.map_err(|error| {
        problem(ProblemKind::Unreachable, format!("{name} does not blink: {error}"), Some("its image needs /bin/blink"))
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// A lease that another DHCP server has acknowledged.
#[utoipa::path(post, path = "/v1/leases", request_body = LeaseReport,
    responses((status = 204), (status = 400, body = Problem)))]
pub(crate) async fn lease(
    State(site): State<Arc<Site>>,
    Json(report): Json<LeaseReport>,
) -> Result<StatusCode, Refused> {
    let wrong = |message: String| problem(ProblemKind::BadRequest, message, None);
    let mac: MacAddr = report.mac.parse().map_err(|error| wrong(format!("{error}")))?;
    let ip: Ipv4Addr = report.ip.parse().map_err(|_| wrong(format!("{:?} is not an IPv4 address", report.ip)))?;
    let event = LeaseEvent { mac, ip, vci: report.vci, uci: report.uci, host_name: report.host_name };
    // Our own DHCP server tells more; of another one's clients this is all that is seen.
    let client = site::client_kind(&event);
    site.see(mac, &Seen::Dhcp { kind: "ack", client, ip: Some(ip) });
    site.lease_elsewhere(&event);
    site.request(Input::Lease(event)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn node_of(site: &Site, mac: MacAddr) -> Result<Node, Problem> {
    let state = site.state();
    let device = state.registrar.device(mac).ok_or_else(|| gone(mac))?;
    Ok(node(site, &state, device))
}

pub(super) fn gone(mac: MacAddr) -> Problem {
    problem(ProblemKind::UnknownNode, format!("{mac} has been forgotten meanwhile"), None)
}

fn node(site: &Site, state: &site::State, device: &Device) -> Node {
    let row = &device.row;
    let now = now_ms();
    let timeline = state.timeline(row.mac);
    Node {
        name: row.name.clone(),
        mac: row.mac.to_string(),
        ip: if row.ip.is_unspecified() { String::new() } else { row.ip.to_string() },
        kind: match (&row.model, &row.board) {
            (Some(_), _) => NodeKind::Node,
            (None, Some(_)) => NodeKind::Unsupported,
            (None, None) => NodeKind::Unknown,
        },
        model: row.model.clone(),
        owner: match state.registrar.owner(device) {
            Some(Owner::User(user)) => Some(user),
            _ => None,
        },
        free: state.registrar.owner(device) == Some(Owner::Nobody),
        board: row.board.clone(),
        image: row.image.clone(),
        image_id: row.served.clone(),
        mounted: row.held.clone(),
        registration: state.registrar.registration(device),
        state: timeline.map_or(NodeState::Off, |timeline| timeline.state(now)),
        step: timeline.and_then(|timeline| timeline.step(now)),
        first_seen: row.first_seen,
        last_seen: timeline.map_or(row.last_seen, |timeline| row.last_seen.max(timeline.heard_ms() / 1000)),
        is_virtual: row.is_virtual,
        trouble: site.machines().trouble(row.mac),
        config: config::effective(row),
    }
}

fn standing(node: &Node) -> String {
    if let Some(trouble) = &node.trouble {
        return format!("{}: its machine does not start: {trouble}", node.state.as_str());
    }
    match &node.step {
        Some(step) => format!("{} ({step})", node.state.as_str()),
        None => node.state.as_str().to_owned(),
    }
}
