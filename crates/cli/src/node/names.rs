//! `walt node rename` and `forget`.

use anyhow::Error;
use api::{Node, RenameRequest};

use crate::http::{self, Client, Sent, target};
use crate::report::say;

pub(super) fn rename(client: &Client, node: &Node, name: &str) -> Result<(), Error> {
    let request = http::json(&RenameRequest { name: name.to_owned() });
    client.send("POST", &target(&["v1", "nodes", &node.name, "rename"], &[]), request)?;
    say(format_args!("{} is called {name} from now on", node.name))
}

pub(super) fn forget(client: &Client, node: &Node, force: bool) -> Result<(), Error> {
    let query = if force { &[("force", "true")][..] } else { &[] };
    client.send("DELETE", &target(&["v1", "nodes", &node.name], query), Sent::Nothing)?;
    say(format_args!("{} is forgotten", node.name))
}
