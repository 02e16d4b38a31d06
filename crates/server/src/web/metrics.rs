//! `/metrics`, for Prometheus.

use std::path::Path;

use api::{ImageState, NodeState};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Web;
use super::exposition::{Exposition, Kind};
use crate::site::{BOUNDS_S, Site, now_ms};

const NODE_STATES: [NodeState; 4] = [NodeState::Off, NodeState::Booting, NodeState::Booted, NodeState::Unreachable];
const IMAGE_STATES: [&str; 4] = ["present", "pulling", "failed", "missing"];

/// State and counters of the platform, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "web",
    responses((status = 200, content_type = "text/plain; version=0.0.4", body = String)))]
pub(crate) async fn show(State(web): State<Web>) -> impl IntoResponse {
    let site = web.control.site.clone();
    let mut text = Exposition::default();
    daemon(&mut text, &web);
    platform(&mut text, &site);
    boots(&mut text, &site);
    // A call to the file system, which may be a slow one.
    let disk = tokio::task::spawn_blocking(move || disk_of(site.state_dir())).await.ok().flatten();
    if let Some((size, free)) = disk {
        text.single(
            "walt_state_dir_size_bytes",
            Kind::Gauge,
            "Size of the disk that images and the registry are on",
            size,
        );
        text.single("walt_state_dir_free_bytes", Kind::Gauge, "Free bytes of that disk", free);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.into_text())
}

fn daemon(text: &mut Exposition, web: &Web) {
    let about = &web.control.about;
    text.metric("walt_build_info", Kind::Gauge, "Always 1; the labels tell which daemon this is");
    text.value("walt_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("interface", &about.interface)], 1);
    text.single("walt_uptime_seconds", Kind::Gauge, "Since the daemon was ready", about.since.elapsed().as_secs());
    let listeners = web.listeners.taken();
    text.single("walt_event_listeners", Kind::Gauge, "Clients that listen to the events of nodes", listeners);
    let mut counters = (about.counters)();
    counters.insert("registry.dropped".into(), web.control.site.registry().dropped());
    for (name, count) in counters {
        let (service, counter) = name.split_once('.').unwrap_or(("daemon", &name));
        let metric = format!("walt_{}_total", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let help = format!("Counter `{counter}` of the service {service} since the daemon started");
        text.single(&metric, Kind::Counter, &help, count);
    }
}

fn platform(text: &mut Exposition, site: &Site) {
    let (mut nodes, mut others, mut images) = ([0; 4], 0, [0; 4]);
    {
        let (state, now) = (site.state(), now_ms());
        for device in state.registrar.devices() {
            if device.row.model.is_none() {
                others += 1;
                continue;
            }
            let timeline = state.timeline(device.row.mac);
            let of = timeline.map_or(NodeState::Off, |timeline| timeline.state(now));
            nodes[NODE_STATES.iter().position(|known| *known == of).unwrap_or(0)] += 1;
        }
        for variant in state.registrar.images().flat_map(|(_, entry)| entry.variants.values()) {
            let of = match variant.state() {
                ImageState::Present => 0,
                ImageState::Pulling { .. } => 1,
                ImageState::Failed { .. } => 2,
                ImageState::Missing => 3,
            };
            images[of] += 1;
        }
    }
    text.metric("walt_nodes", Kind::Gauge, "Nodes, by power state");
    for (state, count) in NODE_STATES.iter().zip(nodes) {
        text.value("walt_nodes", &[("state", state.as_str())], count);
    }
    text.single("walt_other_devices", Kind::Gauge, "Devices that are no nodes", others);
    text.metric("walt_images", Kind::Gauge, "Images (each of their variants), by state");
    for (state, count) in IMAGE_STATES.iter().zip(images) {
        text.value("walt_images", &[("state", state)], count);
    }
}

fn boots(text: &mut Exposition, site: &Site) {
    let name = "walt_boot_duration_seconds";
    let (cumulative, count, sum_ms) = site.boot_times().read();
    text.metric(name, Kind::Histogram, "Boots that ended well, from the first DHCP message to ssh");
    let bucket = format!("{name}_bucket");
    for (bound, count) in BOUNDS_S.iter().zip(cumulative) {
        text.value(&bucket, &[("le", &bound.to_string())], count);
    }
    text.value(&bucket, &[("le", "+Inf")], count);
    text.value(&format!("{name}_sum"), &[], sum_ms as f64 / 1000.0);
    text.value(&format!("{name}_count"), &[], count);
}

/// Bytes of the file system that a path is on, and how many of them the daemon may still use.
fn disk_of(path: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some((disk.f_blocks.saturating_mul(disk.f_frsize), disk.f_bavail.saturating_mul(disk.f_frsize)))
}
