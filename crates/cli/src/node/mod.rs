//! `walt node`: a file for each family of its commands.

mod blink;
mod boot;
mod config;
mod console;
mod machine;
mod names;
mod set;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Error;

use crate::args::NodeCommand;
use crate::http::{Client, target};
use crate::report;
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
        NodeCommand::Reboot { nodes, hard, force } => {
            each(&owned(client, &nodes, force)?, |node| boot::reboot(client, &node.name, hard))
        }
        NodeCommand::Create { name, settings } => machine::create(client, &name, settings),
        NodeCommand::Remove { nodes, force } => {
            each(&owned(client, &nodes, force)?, |node| machine::remove(client, node))
        }
        NodeCommand::Console { node, force } => {
            each(&owned(client, &node, force)?, |node| console::attach(client, node))
        }
        NodeCommand::Config { nodes, settings, force, json } if settings.is_empty() => {
            let _ = force;
            config::show(client, &nodes, json)
        }
        NodeCommand::Config { nodes, settings, force, .. } => {
            let settings = settings.into_iter().collect();
            each(&owned(client, &nodes, force)?, |node| config::change(client, node, &settings))
        }
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
