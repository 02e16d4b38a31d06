//! `walt device tree`.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Error};
use api::{Branch, DeviceKind, Tree};

use crate::report::{Colour, paint};

pub(super) fn print(tree: &Tree) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let text = render(tree, stdout.is_terminal());
    stdout.write_all(text.as_bytes()).context("writing to standard output")
}

fn render(tree: &Tree, terminal: bool) -> String {
    let mut text = String::new();
    draw(&tree.root, "", "", terminal, &mut text);
    if !tree.elsewhere.is_empty() {
        text += "\nplace not known:\n";
        tree.elsewhere.iter().for_each(|branch| draw(branch, "", "", terminal, &mut text));
    }
    text
}

/// A branch: `here` stands before its own line, `below` before those of what hangs on it.
fn draw(branch: &Branch, here: &str, below: &str, terminal: bool, text: &mut String) {
    let port = branch.port.as_ref().map(|port| format!("{port}: ")).unwrap_or_default();
    let uplink = branch.uplink.as_ref().map(|port| format!(" ({port})")).unwrap_or_default();
    let colour = match branch.kind {
        DeviceKind::Server | DeviceKind::Node => None,
        DeviceKind::Switch => Some(Colour::Yellow),
        DeviceKind::Unsupported | DeviceKind::Unknown => Some(Colour::Dim),
    };
    let name = colour.map_or_else(|| branch.name.clone(), |colour| paint(colour, &branch.name, terminal));
    *text += &format!("{here}{port}{name}{uplink}\n");
    for (n, next) in branch.below.iter().enumerate() {
        let (corner, line) = if n + 1 < branch.below.len() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
        draw(next, &format!("{below}{corner}"), &format!("{below}{line}"), terminal, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str, port: &str, uplink: &str, below: Vec<Branch>) -> Branch {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Branch {
            name: name.into(),
            mac: String::new(),
            kind: DeviceKind::Node,
            port: some(port),
            uplink: some(uplink),
            below,
        }
    }

    #[test]
    fn lines_lead_from_each_device_to_the_one_above() {
        let inner = branch("rack-2", "g2", "g8", vec![branch("node-2", "g1", "", vec![])]);
        let rack = branch("rack-1", "", "g24", vec![branch("node-1", "g1", "", vec![]), inner]);
        let root = branch("walt-server", "", "", vec![rack, branch("vm1", "", "", vec![])]);
        let tree = Tree { root, elsewhere: vec![branch("unknown-1", "", "", vec![])] };
        assert_eq!(
            render(&tree, false),
            "\
walt-server
├─ rack-1 (g24)
│  ├─ g1: node-1
│  └─ g2: rack-2 (g8)
│     └─ g1: node-2
└─ vm1

place not known:
unknown-1
"
        );
    }
}
