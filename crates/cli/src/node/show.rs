//! `walt node show`.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Error;
use api::{Node, NodeKind, NodeState, Registration};

use crate::http::{Client, target};
use crate::report::{self, Colour, paint, say};
use crate::table;

pub(super) fn show(client: &Client, all: bool, json: bool) -> Result<(), Error> {
    let query = if all { &[("all", "true")][..] } else { &[] };
    let nodes: Vec<Node> = client.get(&target(&["v1", "nodes"], query))?;
    if json {
        return report::json(&nodes);
    }
    if nodes.is_empty() {
        return say("no node has asked for an address yet");
    }
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            [
                node.name.clone(),
                node.mac.clone(),
                ip(node),
                model(node).unwrap_or_else(|| "-".into()),
                state(node),
                node.image.as_deref().map_or_else(|| "-".into(), familiar),
                registration(node),
            ]
        })
        .collect();
    table::print(["name", "mac", "ip", "model", "state", "image", "registration"], &rows)
}

pub(super) fn show_one(client: &Client, name: &str, json: bool) -> Result<(), Error> {
    let node: Node = client.get(&target(&["v1", "nodes", name], &[]))?;
    if json {
        return report::json(&node);
    }
    let none = || "-".to_owned();
    for (title, text) in [
        ("name", node.name.clone()),
        ("mac", node.mac.clone()),
        ("ip", ip(&node)),
        ("model", model(&node).unwrap_or_else(none)),
        ("owner", node.owner.clone().unwrap_or_else(|| if node.free { "nobody (free)".into() } else { none() })),
        ("state", state(&node)),
        ("image", node.image.clone().unwrap_or_else(none)),
        ("registration", registration(&node)),
        ("served", node.image_id.clone().unwrap_or_else(none)),
        ("mounted", if node.mounted.is_empty() { none() } else { node.mounted.join(" ") }),
        ("first seen", ago(node.first_seen)),
        ("last seen", ago(node.last_seen)),
    ] {
        say(format_args!("{title:<13} {text}"))?;
    }
    Ok(())
}

/// The address, which a virtual node that was never on has not.
fn ip(node: &Node) -> String {
    if node.ip.is_empty() { "-".into() } else { node.ip.clone() }
}

fn state(node: &Node) -> String {
    match &node.step {
        Some(step) => format!("{} ({step})", node.state.as_str()),
        None => node.state.as_str().to_owned(),
    }
}

/// The model, or what the board is called that is none.
fn model(node: &Node) -> Option<String> {
    node.model.clone().or_else(|| Some(format!("unknown-{}", node.board.as_ref()?)))
}

fn registration(node: &Node) -> String {
    if let Some(trouble) = &node.trouble {
        return format!("its machine does not start: {trouble}");
    }
    match &node.registration {
        Registration::NotANode if node.kind == NodeKind::Unsupported => {
            "unsupported: no model is known for this board, and docs/adding-a-board.md says how to add one".into()
        }
        Registration::NotANode => "-".into(),
        Registration::Ready => "ready".into(),
        Registration::Preparing => "image is being prepared".into(),
        Registration::Pulling { trouble: Some(trouble), .. } => format!("registry is asked again: {trouble}"),
        Registration::Pulling { done, total, .. } => match (done.saturating_mul(100)).checked_div(*total) {
            Some(percent) => format!("image is arriving, {percent} %"),
            None => "image is arriving".into(),
        },
        Registration::Failed { step, cause, retry_at, attempts } => {
            let again = match retry_at {
                Some(at) => format!("; tried {attempts} times, again in {} s", (at - now()).max(0)),
                None => String::new(),
            };
            format!("{step} failed: {cause}{again}")
        }
    }
}

/// As people write it: without what docker implies.
pub(crate) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

fn ago(at: i64) -> String {
    format!("{} ago", report::duration(u64::try_from(now() - at).unwrap_or(0)))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A state, in its colour.
pub(crate) fn painted(state: NodeState, terminal: bool) -> String {
    let colour = match state {
        NodeState::Booted => Colour::Green,
        NodeState::Booting => Colour::Yellow,
        NodeState::Unreachable => Colour::Red,
        NodeState::Off => Colour::Dim,
    };
    paint(colour, state.as_str(), terminal)
}
