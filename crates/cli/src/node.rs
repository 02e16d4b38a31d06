//! `walt node`.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, bail};
use api::{BlinkRequest, BootRequest, Node, NodeKind, NodeState, Rebooted, Registration, RenameRequest, User};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::NodeCommand;
use crate::http::{self, Client, Sent, target};
use crate::report::{self, Colour, paint, say};
use crate::{progress, table, trace};

pub(crate) fn run(client: &Client, command: NodeCommand) -> Result<(), Error> {
    match command {
        NodeCommand::Show { node: Some(node), json, .. } => show_one(client, &node, json),
        NodeCommand::Show { node: None, all, json } => show(client, all, json),
        NodeCommand::Wait { nodes, timeout } => wait(client, &nodes, timeout),
        NodeCommand::Boot { nodes, image, no_reboot, force } => {
            each(&owned(client, &nodes, force)?, |node| boot(client, node, &image, no_reboot))
        }
        NodeCommand::Reboot { nodes, force } => each(&owned(client, &nodes, force)?, |node| {
            let node = reboot(client, &node.name)?;
            say(format_args!("{node} reboots"))
        }),
        NodeCommand::Rename { node, name, force } => each(&owned(client, &node, force)?, |node| {
            let request = http::json(&RenameRequest { name: name.clone() });
            client.send("POST", &target(&["v1", "nodes", &node.name, "rename"], &[]), request)?;
            say(format_args!("{} is called {name} from now on", node.name))
        }),
        NodeCommand::Forget { node, force } => each(&owned(client, &node, force)?, |node| {
            let query = if force { &[("force", "true")][..] } else { &[] };
            client.send("DELETE", &target(&["v1", "nodes", &node.name], query), Sent::Nothing)?;
            say(format_args!("{} is forgotten", node.name))
        }),
        NodeCommand::Blink { nodes, seconds } => blink(client, &nodes, Duration::from_secs(seconds)),
        NodeCommand::Trace { node, json } => {
            let trace = client.get(&target(&["v1", "nodes", &node, "trace"], &[]))?;
            if json { report::json(&trace) } else { trace::print(&trace) }
        }
    }
}

fn show(client: &Client, all: bool, json: bool) -> Result<(), Error> {
    let query = if all { &[("all", "true")][..] } else { &[] };
    let nodes: Vec<Node> = client.get(&target(&["v1", "nodes"], query))?;
    if json {
        return report::json(&nodes);
    }
    if nodes.is_empty() {
        return say("no node has asked for an address yet");
    }
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            [
                node.name.clone(),
                node.mac.clone(),
                node.ip.clone(),
                model(node).unwrap_or_else(|| "-".into()),
                state(node),
                node.image.as_deref().map_or_else(|| "-".into(), familiar),
                registration(node),
            ]
        })
        .collect();
    table::print(["name", "mac", "ip", "model", "state", "image", "registration"], &rows)
}

fn show_one(client: &Client, name: &str, json: bool) -> Result<(), Error> {
    let node: Node = client.get(&target(&["v1", "nodes", name], &[]))?;
    if json {
        return report::json(&node);
    }
    let none = || "-".to_owned();
    for (title, text) in [
        ("name", node.name.clone()),
        ("mac", node.mac.clone()),
        ("ip", node.ip.clone()),
        ("model", model(&node).unwrap_or_else(none)),
        ("owner", node.owner.clone().unwrap_or_else(|| if node.free { "nobody (free)".into() } else { none() })),
        ("state", state(&node)),
        ("image", node.image.clone().unwrap_or_else(none)),
        ("registration", registration(&node)),
        ("served", node.image_id.clone().unwrap_or_else(none)),
        ("mounted", if node.mounted.is_empty() { none() } else { node.mounted.join(" ") }),
        ("first seen", ago(node.first_seen)),
        ("last seen", ago(node.last_seen)),
    ] {
        say(format_args!("{title:<13} {text}"))?;
    }
    Ok(())
}

fn wait(client: &Client, set: &str, timeout: Option<u64>) -> Result<(), Error> {
    let begun = Instant::now();
    each(&members(client, set)?, |node| {
        // All of them have the time together.
        let left = timeout.map(|seconds| seconds.saturating_sub(begun.elapsed().as_secs()).to_string());
        let query: Vec<_> = left.iter().map(|seconds| ("timeout_s", seconds.as_str())).collect();
        let body = client.send("GET", &target(&["v1", "nodes", &node.name, "wait"], &query), Sent::Nothing)?;
        say(progress::follow(body)?)
    })
}

fn boot(client: &Client, node: &Node, image: &str, no_reboot: bool) -> Result<(), Error> {
    let request = http::json(&BootRequest { image: image.to_owned() });
    let body = client.send("POST", &target(&["v1", "nodes", &node.name, "boot"], &[]), request)?;
    say(progress::follow(body)?)?;
    let now: Node = client.get(&target(&["v1", "nodes", &node.name], &[]))?;
    if no_reboot || now.state != NodeState::Booted {
        return Ok(());
    }
    let name = reboot(client, &node.name)?;
    say(format_args!("{name} reboots"))
}

/// The nodes of a set.
pub(crate) fn members(client: &Client, set: &str) -> Result<Vec<Node>, Error> {
    Ok(client.get(&target(&["v1", "nodes"], &[("set", set)]))?)
}

/// The nodes of a set, if they are the caller's or nobody's; those of others only if the caller insists, or says so when
/// asked.
fn owned(client: &Client, set: &str, force: bool) -> Result<Vec<Node>, Error> {
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
fn each(nodes: &[Node], mut work: impl FnMut(&Node) -> Result<(), Error>) -> Result<(), Error> {
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

fn blink(client: &Client, set: &str, time: Duration) -> Result<(), Error> {
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

fn reboot(client: &Client, node: &str) -> Result<String, Error> {
    let answer = client.send("POST", &target(&["v1", "nodes", node, "reboot"], &[]), Sent::Nothing)?;
    Ok(answer.json::<Rebooted>()?.node)
}

fn state(node: &Node) -> String {
    match &node.step {
        Some(step) => format!("{} ({step})", node.state.as_str()),
        None => node.state.as_str().to_owned(),
    }
}

/// The model, or what the board is called that is none.
fn model(node: &Node) -> Option<String> {
    node.model.clone().or_else(|| Some(format!("unknown-{}", node.board.as_ref()?)))
}

fn registration(node: &Node) -> String {
    match &node.registration {
        Registration::NotANode if node.kind == NodeKind::Unsupported => {
            "unsupported: no model is known for this board, and docs/adding-a-board.md says how to add one".into()
        }
        Registration::NotANode => "-".into(),
        Registration::Ready => "ready".into(),
        Registration::Preparing => "image is being prepared".into(),
        Registration::Pulling { trouble: Some(trouble), .. } => format!("registry is asked again: {trouble}"),
        Registration::Pulling { done, total, .. } => match (done.saturating_mul(100)).checked_div(*total) {
            Some(percent) => format!("image is arriving, {percent} %"),
            None => "image is arriving".into(),
        },
        Registration::Failed { step, cause, retry_at, attempts } => {
            let again = match retry_at {
                Some(at) => format!("; tried {attempts} times, again in {} s", (at - now()).max(0)),
                None => String::new(),
            };
            format!("{step} failed: {cause}{again}")
        }
    }
}

/// As people write it: without what docker implies.
pub(crate) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

fn ago(at: i64) -> String {
    format!("{} ago", report::duration(u64::try_from(now() - at).unwrap_or(0)))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A state, in its colour.
pub(crate) fn painted(state: NodeState, terminal: bool) -> String {
    let colour = match state {
        NodeState::Booted => Colour::Green,
        NodeState::Booting => Colour::Yellow,
        NodeState::Unreachable => Colour::Red,
        NodeState::Off => Colour::Dim,
    };
    paint(colour, state.as_str(), terminal)
}
