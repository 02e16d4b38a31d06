//! `walt help`: pages about how things work, beside the `--help` of each command, which says how to write it.

mod page;
mod pager;

use std::io::{self, IsTerminal};

use anyhow::Error;
use api::{Problem, ProblemKind};

use crate::args::HelpCommand;
use crate::report::say;

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    text: &'static str,
}

macro_rules! topics {
    ($($name:literal),* $(,)?) => {
        &[$(Topic { name: $name, text: include_str!(concat!("../../../../docs/help/", $name, ".md")) }),*]
    };
}

/// All of them, in the order in which a newcomer would read them.
const TOPICS: &[Topic] = topics![
    "start",
    "nodes",
    "node-sets",
    "images",
    "booting",
    "boards",
    "boot-media",
    "shell-and-files",
    "virtual-nodes",
    "node-console",
    "node-config",
    "persist",
    "networking",
    "logs",
    "log-ranges",
    "log-programs",
    "devices",
    "device-poe",
    "web-api",
    "scripting",
    "completion",
    "troubleshooting",
];

impl Topic {
    /// Its first line.
    pub(crate) fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

/// All topics.
pub(crate) fn topics() -> impl Iterator<Item = &'static Topic> {
    TOPICS.iter()
}

/// Runs `walt help`.
pub(crate) fn run(command: Option<HelpCommand>) -> Result<(), Error> {
    match command {
        None | Some(HelpCommand::List) => list(),
        Some(HelpCommand::Show { topic }) => show(&topic),
        // As `git help TOPIC` and others have it.
        Some(HelpCommand::Topic(words)) => show(&words.join("-")),
    }
}

fn list() -> Result<(), Error> {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    for topic in TOPICS {
        say(format_args!("{:width$}  {}", topic.name, topic.title()))?;
    }
    say("\n`walt help show TOPIC` shows one of them, `walt COMMAND --help` how to write a command.")
}

fn show(name: &str) -> Result<(), Error> {
    let topic = find(name)?;
    let terminal = io::stdout().is_terminal();
    pager::show(&page::rendered(topic.text, terminal), terminal)
}

/// The topic of this name.
fn find(name: &str) -> Result<&'static Topic, Problem> {
    let wanted = name.to_lowercase();
    if let Some(topic) = TOPICS.iter().find(|topic| topic.name == wanted) {
        return Ok(topic);
    }
    let likeness = |topic: &&Topic| {
        let whole = strsim::jaro_winkler(&wanted, topic.name);
        // `poe`, `ranges`, `console`: a part of the name is as good.
        let part = topic.name.split('-').any(|part| part == wanted || format!("{part}s") == wanted);
        if part { whole.max(0.95) } else { whole }
    };
    let nearest =
        TOPICS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|topic| likeness(topic) > 0.7);
    let question = nearest.map(|topic| format!("is it `walt help show {}`? ", topic.name)).unwrap_or_default();
    Err(Problem {
        kind: ProblemKind::BadRequest,
        message: format!("there is no help on {name:?}"),
        hint: Some(format!("{question}`walt help list` lists the topics, `walt --help` the commands")),
    })
}

#[cfg(test)]
mod tests;
