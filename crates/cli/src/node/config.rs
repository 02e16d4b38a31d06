//! `walt node config`: settings of nodes.

use std::collections::BTreeMap;

use anyhow::Error;
use api::{ConfigRequest, Node};

use super::set::members;
use crate::http::{self, Client, target};
use crate::report::{self, say};
use crate::table;

/// Prints all settings of the nodes of a set.
pub(super) fn show(client: &Client, set: &str, json: bool) -> Result<(), Error> {
    let nodes = members(client, set)?;
    if json {
        let settings: BTreeMap<_, _> = nodes.iter().map(|node| (&node.name, &node.config)).collect();
        return report::json(&settings);
    }
    let rows = |node: &Node| {
        let row = |(key, value): (&String, &String)| [node.name.clone(), key.clone(), value.clone()];
        node.config.iter().map(row).collect::<Vec<_>>()
    };
    table::print(["node", "setting", "value"], &nodes.iter().flat_map(rows).collect::<Vec<_>>())
}

/// Changes settings of one node.
pub(super) fn change(client: &Client, node: &Node, settings: &BTreeMap<String, String>) -> Result<(), Error> {
    let request = http::json(&ConfigRequest { settings: settings.clone() });
    let now: Node = client.send("POST", &target(&["v1", "nodes", &node.name, "config"], &[]), request)?.json()?;
    for key in settings.keys() {
        let value = now.config.get(key).map_or("", String::as_str);
        say(format_args!("{}: {key}={value}", node.name))?;
    }
    if now.config != node.config && matches!(now.state, api::NodeState::Booted | api::NodeState::Booting) {
        say(format_args!("{} takes it on at its next boot: `walt node reboot {0}`", node.name))?;
    }
    Ok(())
}
