//! `walt node`: a file for each family of its commands.

mod blink;
mod boot;
mod names;
mod set;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Error;

use crate::args::NodeCommand;
use crate::http::{Client, target};
use crate::report::{self, say};
use crate::trace;

pub(crate) use set::members;
use set::{each, owned};
pub(crate) use show::{familiar, painted};

pub(crate) fn run(client: &Client, command: NodeCommand) -> Result<ExitCode, Error> {
    match command {
        NodeCommand::Show { node: Some(node), json, .. } => show::show_one(client, &node, json),
        NodeCommand::Show { node: None, all, json } => show::show(client, all, json),
        NodeCommand::Wait { nodes, timeout } => boot::wait(client, &nodes, timeout),
        NodeCommand::Boot { nodes, image, no_reboot, force } => {
            each(&owned(client, &nodes, force)?, |node| boot::boot(client, node, &image, no_reboot))
        }
        NodeCommand::Reboot { nodes, force } => each(&owned(client, &nodes, force)?, |node| {
            let node = boot::reboot(client, &node.name)?;
            say(format_args!("{node} reboots"))
        }),
        NodeCommand::Rename { node, name, force } => {
            each(&owned(client, &node, force)?, |node| names::rename(client, node, &name))
        }
        NodeCommand::Forget { node, force } => {
            each(&owned(client, &node, force)?, |node| names::forget(client, node, force))
        }
        NodeCommand::Blink { nodes, seconds } => blink::blink(client, &nodes, Duration::from_secs(seconds)),
        NodeCommand::Trace { node, json } => {
            let trace = client.get(&target(&["v1", "nodes", &node, "trace"], &[]))?;
            if json { report::json(&trace) } else { trace::print(&trace) }
        }
    }?;
    Ok(ExitCode::SUCCESS)
}
