//! Sets of nodes, and what is done to each node of one.

use std::io::{self, IsTerminal};

use anyhow::{Context, Error, bail};
use api::{Node, User};

use crate::http::{Client, target};
use crate::report;

/// The nodes of a set.
pub(crate) fn members(client: &Client, set: &str) -> Result<Vec<Node>, Error> {
    Ok(client.get(&target(&["v1", "nodes"], &[("set", set)]))?)
}

/// The nodes of a set, if they are the caller's or nobody's; those of others only if the caller insists, or says so when
/// asked.
pub(super) fn owned(client: &Client, set: &str, force: bool) -> Result<Vec<Node>, Error> {
    let nodes = members(client, set)?;
    if force {
        return Ok(nodes);
    }
    let me: User = client.get("/v1/user")?;
    let others: Vec<_> =
        nodes.iter().filter_map(|node| Some((node, node.owner.as_ref().filter(|owner| **owner != me.name)?))).collect();
    if others.is_empty() {
        return Ok(nodes);
    }
    let whose: Vec<_> = others.iter().map(|(node, owner)| format!("{} is {owner}'s", node.name)).collect();
    let whose = whose.join(", ");
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!("{whose}: say --force if you mean it");
    }
    eprint!("{whose}. Go on all the same? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("reading the answer")?;
    if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        bail!("nothing was done");
    }
    Ok(nodes)
}

/// Does `work` on each node, whether it fails for others or not; fails if it failed for any.
pub(super) fn each(nodes: &[Node], mut work: impl FnMut(&Node) -> Result<(), Error>) -> Result<(), Error> {
    let mut failed = Vec::new();
    for node in nodes {
        if let Err(error) = work(node) {
            if nodes.len() == 1 {
                return Err(error);
            }
            report::failure(&error);
            failed.push(node.name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} nodes failed: {}", failed.len(), nodes.len(), failed.join(", "));
    }
    Ok(())
}
