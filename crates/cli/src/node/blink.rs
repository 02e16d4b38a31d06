//! `walt node blink`.

use std::time::Duration;

use anyhow::{Context, Error};
use api::{BlinkRequest, Node};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::set::{each, members};
use crate::http::{self, Client, target};
use crate::report::say;

pub(super) fn blink(client: &Client, set: &str, time: Duration) -> Result<(), Error> {
    let nodes = members(client, set)?;
    let switch = |node: &Node, on| {
        let path = target(&["v1", "nodes", &node.name, "blink"], &[]);
        client.send("POST", &path, http::json(&BlinkRequest { on })).map(drop)
    };
    each(&nodes, |node| {
        switch(node, true)?;
        say(format_args!("{} blinks", node.name))
    })?;
    // Ctrl-C ends the wait; the lights go out all the same.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("can not wait for signals")?;
    let (interrupted, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || signals.forever().next().map(|signal| interrupted.send(signal)));
    let signal = ended.recv_timeout(time).ok();
    each(&nodes, |node| Ok(switch(node, false)?))?;
    match signal {
        Some(signal) => std::process::exit(128 + signal),
        None => Ok(()),
    }
}
