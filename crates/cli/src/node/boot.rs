//! `walt node boot`, `reboot` and `wait`.

use std::time::Instant;

use anyhow::Error;
use api::{BootRequest, Node, NodeState, RebootWay, Rebooted};

use super::set::{each, members};
use crate::http::{self, Client, Sent, target};
use crate::progress;
use crate::report::say;

pub(super) fn boot(client: &Client, node: &Node, image: &str, no_reboot: bool) -> Result<(), Error> {
    let request = http::json(&BootRequest { image: image.to_owned() });
    let body = client.send("POST", &target(&["v1", "nodes", &node.name, "boot"], &[]), request)?;
    say(progress::follow(body)?)?;
    let now: Node = client.get(&target(&["v1", "nodes", &node.name], &[]))?;
    if no_reboot || now.state != NodeState::Booted {
        return Ok(());
    }
    reboot(client, &node.name, false)
}

pub(super) fn wait(client: &Client, set: &str, timeout: Option<u64>) -> Result<(), Error> {
    let begun = Instant::now();
    each(&members(client, set)?, |node| {
        // All of them have the time together.
        let left = timeout.map(|seconds| seconds.saturating_sub(begun.elapsed().as_secs()).to_string());
        let query: Vec<_> = left.iter().map(|seconds| ("timeout_s", seconds.as_str())).collect();
        let body = client.send("GET", &target(&["v1", "nodes", &node.name, "wait"], &query), Sent::Nothing)?;
        say(progress::follow(body)?)
    })
}

pub(super) fn reboot(client: &Client, node: &str, hard: bool) -> Result<(), Error> {
    let query = if hard { &[("hard", "true")][..] } else { &[] };
    let answer = client.send("POST", &target(&["v1", "nodes", node, "reboot"], query), Sent::Nothing)?;
    let Rebooted { node, way, soft_failure } = answer.json()?;
    let way = match way {
        RebootWay::Soft => "reboots",
        RebootWay::Reset => "is reset",
    };
    match soft_failure {
        Some(cause) => say(format_args!("{node} {way}: its OS does not answer ({cause})")),
        None => say(format_args!("{node} {way}")),
    }
}
