//! `walt node create` and `remove`: virtual nodes.

use anyhow::{Error, bail};
use api::{CreateRequest, Node};

use crate::http::{self, Client, Sent, target};
use crate::report::say;

pub(super) fn create(client: &Client, name: &str, settings: Vec<(String, String)>) -> Result<(), Error> {
    let request = CreateRequest { name: name.to_owned(), settings: settings.into_iter().collect() };
    let node: Node = client.send("POST", "/v1/nodes", http::json(&request))?.json()?;
    say(format_args!("{} is on; `walt node wait {0}` waits until it is booted", node.name))
}

pub(super) fn remove(client: &Client, node: &Node) -> Result<(), Error> {
    if !node.is_virtual {
        bail!("{} is no virtual node: `walt node forget {0}` makes the server forget it", node.name);
    }
    client.send("DELETE", &target(&["v1", "nodes", &node.name], &[]), Sent::Nothing)?;
    say(format_args!("{} is removed", node.name))
}
