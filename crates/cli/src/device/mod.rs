//! `walt device`.

mod args;
mod show;
mod tree;

use std::io::{self, IsTerminal};

use anyhow::{Error, bail};
use api::{Explored, Node, Tree};

pub(crate) use args::DeviceCommand;

use crate::http::{Client, Sent, target};
use crate::node;
use crate::reach;
use crate::report::{self, say};

pub(crate) fn run(client: &Client, command: DeviceCommand) -> Result<(), Error> {
    match command {
        DeviceCommand::Show { devices, json } => show::show(client, devices.as_deref(), json),
        DeviceCommand::Rename { device, name, force } => node::rename(client, &device, &name, force),
        DeviceCommand::Forget { device, force } => node::forget(client, &device, force),
        DeviceCommand::Config { devices, settings, force, json } => {
            node::config(client, &devices, settings, force, json)
        }
        DeviceCommand::Ping { devices, count } => node::each(&node::members(client, &devices)?, |device| {
            reach::ping(&device.name, &device.ip, wire::node::NET_SERVICE_PORT, count)
        }),
        DeviceCommand::Expose { device, port, local_port, bind } => {
            let device: Node = client.get(&target(&["v1", "nodes", &device], &[]))?;
            reach::expose(&device.name, &device.ip, port, bind, local_port)
        }
        DeviceCommand::Tree { json } => {
            let tree: Tree = client.get("/v1/devices/tree")?;
            if json { report::json(&tree) } else { tree::print(&tree) }
        }
        DeviceCommand::Rescan { json } => rescan(client, json),
    }
}

fn rescan(client: &Client, json: bool) -> Result<(), Error> {
    if io::stderr().is_terminal() {
        eprintln!("the switches are asked what hangs on them");
    }
    let explored: Vec<Explored> = client.send("POST", "/v1/devices/rescan", Sent::Nothing)?.json()?;
    if json {
        return report::json(&explored);
    }
    if explored.is_empty() {
        return say("there is no switch that may be asked: `walt device config --help` tells how one is declared");
    }
    for found in &explored {
        if found.error.is_none() {
            say(format_args!("{}: {} devices", found.switch, found.devices))?;
        }
    }
    let failed: Vec<_> =
        explored.iter().filter_map(|found| Some(format!("{}: {}", found.switch, found.error.as_ref()?))).collect();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n      ")) }
}
