//! `walt node`: a file for each family of its commands.

pub(crate) mod args;
mod blink;
mod boot;
mod config;
mod console;
mod copy;
mod interrupt;
mod login;
mod machine;
mod names;
mod ownership;
mod run;
mod save;
mod set;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Error;
use api::Node;

use crate::args::NodeCommand;
use crate::http::{Client, target};
use crate::report;
use crate::{reach, trace};

pub(crate) use set::members;
use set::{each, owned};
pub(crate) use show::{familiar, painted};

pub(crate) fn run(client: &Client, command: NodeCommand) -> Result<ExitCode, Error> {
    match command {
        NodeCommand::Show { node: Some(node), json, .. } => show::show_one(client, &node, json),
        NodeCommand::Show { node: None, all, json, names_only } => show::show(client, all, json, names_only),
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
        NodeCommand::Run(args) => return run::run(client, &args),
        NodeCommand::Shell(args) => return run::shell(client, &args),
        NodeCommand::Cp(args) => copy::copy(client, &args),
        NodeCommand::Ping(args) => each(&members(client, &args.nodes)?, |node| {
            reach::ping(&node.name, &node.ip, wire::node::NET_SERVICE_PORT, args.count)
        }),
        NodeCommand::Expose(args) => {
            let node: Node = client.get(&target(&["v1", "nodes", &args.node], &[]))?;
            reach::expose(&node.name, &node.ip, args.port, args.bind, args.local_port)
        }
        NodeCommand::Save(args) => save::save(client, &args),
        NodeCommand::Acquire(args) => ownership::acquire(client, &args),
        NodeCommand::Release(args) => ownership::release(client, &args),
        NodeCommand::Trace { node, json } => {
            let trace = client.get(&target(&["v1", "nodes", &node, "trace"], &[]))?;
            if json { report::json(&trace) } else { trace::print(&trace) }
        }
    }?;
    Ok(ExitCode::SUCCESS)
}
