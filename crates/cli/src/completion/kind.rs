//! What an argument names.

use boot::MODELS;
use clap::Arg;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};

use super::names::{Name, Names};
use crate::help;

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One node.
    Node,
    /// Nodes with commas between them, or a keyword.
    NodeSet,
    /// Issuers of logs: a set of nodes, and the server.
    Issuers,
    /// One device, nodes among them.
    Device,
    /// Devices with commas between them, or a keyword.
    DeviceSet,
    /// An image on the server.
    Image,
    /// An image on the server, or the default one.
    ImageOrDefault,
    /// A checkpoint of mine.
    Checkpoint,
    /// A model of nodes that starts from a card.
    Model,
    /// A page of `walt help`.
    Topic,
    /// A file here, or `NODE:FILE`.
    FileOrNode,
}

impl Kind {
    /// By the name that the description of the command line has for it. Whoever adds a command whose argument is called
    /// `node`, `nodes`, `device`, `devices` or `image` has nothing to do here.
    pub(super) fn of(command: &[String], arg: &Arg) -> Option<Self> {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        Some(match (command.as_slice(), arg.get_id().as_str()) {
            (["node", "create"] | ["image", "clone" | "search"], _) => return None,
            (["node", "boot"], "image") => Self::ImageOrDefault,
            (["node", "cp"], "source" | "destination" | "dest" | "src" | "from" | "to") => Self::FileOrNode,
            (["node", "save"], "image") => Self::Image,
            (["log", "remove-checkpoint"], "name") => Self::Checkpoint,
            (["help", ..], "topic") => Self::Topic,
            (_, "node") => Self::Node,
            (_, "nodes") => Self::NodeSet,
            (_, "device") => Self::Device,
            (_, "devices") => Self::DeviceSet,
            (_, "issuers") => Self::Issuers,
            (_, "image" | "images") => Self::Image,
            (_, "model" | "board") => Self::Model,
            _ => return None,
        })
    }

    /// What may stand there, given what has been written of it.
    pub(super) fn candidates(self, current: &str, names: &Names) -> Vec<CompletionCandidate> {
        const SETS: &[(&str, &str)] = &[
            ("my-nodes", "nodes that boot images of mine"),
            ("free-nodes", "nodes that boot the default image of their model"),
            ("all-nodes", "all nodes"),
        ];
        const ALL: &[(&str, &str)] = &[("all-devices", "all that has asked for an address")];
        const SERVER: &[(&str, &str)] = &[("server", "what the server itself logs")];
        const DEFAULT: &[(&str, &str)] = &[("default", "the default image of its model")];
        match self {
            Self::Node => matching("", current, names.nodes(), &[]),
            Self::Device => matching("", current, names.devices(), &[]),
            Self::Image => matching("", current, names.images(), &[]),
            Self::ImageOrDefault => matching("", current, names.images(), DEFAULT),
            Self::Checkpoint => matching("", current, names.checkpoints(), &[]),
            Self::NodeSet => in_set(current, names.nodes(), SETS),
            Self::DeviceSet => in_set(current, names.devices(), &[SETS, ALL].concat()),
            Self::Issuers => in_set(current, names.nodes(), &[SETS, SERVER].concat()),
            Self::Model => {
                let boards = MODELS.iter().filter(|model| model.bootloader == boot::Bootloader::UBoot);
                let boards = boards.map(|model| Name { name: model.name.into(), about: model.description.into() });
                matching("", current, boards.collect(), &[])
            }
            Self::Topic => {
                let topics = help::topics().map(|topic| Name { name: topic.name.into(), about: topic.title().into() });
                matching("", current, topics.collect(), &[])
            }
            Self::FileOrNode => {
                let nodes = names.nodes().into_iter().map(|node| Name { name: format!("{}:", node.name), ..node });
                let mut all = matching("", current, nodes.collect(), &[]);
                all.extend(PathCompleter::any().complete(std::ffi::OsStr::new(current)));
                all
            }
        }
    }
}

/// The names that begin with what has been written, after `prefix`.
fn matching(prefix: &str, current: &str, names: Vec<Name>, keywords: &[(&str, &str)]) -> Vec<CompletionCandidate> {
    let keywords = keywords.iter().map(|(name, about)| Name { name: (*name).into(), about: (*about).into() });
    let all = names.into_iter().chain(keywords).filter(|name| name.name.starts_with(current));
    all.map(|name| CompletionCandidate::new(format!("{prefix}{}", name.name)).help(Some(name.about.into()))).collect()
}

/// The same for the last member of a set. None is offered twice.
fn in_set(current: &str, names: Vec<Name>, keywords: &[(&str, &str)]) -> Vec<CompletionCandidate> {
    let at = current.rfind(',').map_or(0, |comma| comma + 1);
    let (before, last) = current.split_at(at);
    let mut all = matching(before, last, names, keywords);
    let taken: Vec<&str> = before.split(',').filter(|name| !name.is_empty()).collect();
    all.retain(|candidate| {
        let value = candidate.get_value().to_str().unwrap_or_default();
        !taken.contains(&&value[before.len().min(value.len())..])
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(candidates: &[CompletionCandidate]) -> Vec<&str> {
        candidates.iter().filter_map(|candidate| candidate.get_value().to_str()).collect()
    }

    fn node(name: &str) -> Name {
        Name { name: name.into(), about: String::new() }
    }

    #[test]
    fn a_set_goes_on_after_its_last_comma_and_offers_nothing_twice() {
        let nodes = || vec![node("n1"), node("n2"), node("kitchen")];
        assert_eq!(values(&in_set("n", nodes(), &[])), ["n1", "n2"]);
        assert_eq!(values(&in_set("n1,n", nodes(), &[])), ["n1,n2"]);
        assert_eq!(values(&in_set("n1,n2,", nodes(), &[("my-nodes", "")])), ["n1,n2,kitchen", "n1,n2,my-nodes"]);
    }
}
