//! `walt node acquire` and `release`.

use anyhow::Error;
use api::{Node, NodeState, User};

use super::args::{AcquireArgs, ReleaseArgs};
use super::boot::{boot, reboot};
use super::set::{each, owned};
use crate::http::{Client, Sent, target};
use crate::progress;
use crate::report::say;

pub(super) fn acquire(client: &Client, args: &AcquireArgs) -> Result<(), Error> {
    let me: User = client.get("/v1/user")?;
    each(&owned(client, &args.nodes, args.force)?, |node| {
        if node.owner.as_ref() == Some(&me.name) {
            return say(format_args!("{} is yours already", node.name));
        }
        let body = client.send("POST", &target(&["v1", "nodes", &node.name, "acquire"], &[]), Sent::Nothing)?;
        say(progress::follow(body)?)?;
        let now: Node = client.get(&target(&["v1", "nodes", &node.name], &[]))?;
        if now.state == NodeState::Booted {
            // Whatever others have changed on it goes.

            reboot(client, &node.name, false)?;
        }
        Ok(())
    })
}

pub(super) fn release(client: &Client, args: &ReleaseArgs) -> Result<(), Error> {
    each(&owned(client, &args.nodes, args.force)?, |node| {
        if node.free {
            say(format_args!("{} is free already", node.name))
        } else {
            boot(client, node, "default", false)
        }
    })
}
