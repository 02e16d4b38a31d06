//! Writes the man pages of all programs into a directory, from the descriptions of their command lines: `./x man`.
//!
//! `man DIRECTORY DATE`. The pages that are written by hand (docs/man) are copied beside them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

/// Who refers to whom: page, section.
const PAGES: &[(&str, &str)] = &[
    ("walt", "1"),
    ("walt-dhcp-event", "8"),
    ("walt-server-daemon", "8"),
    ("walt-server-setup", "8"),
    ("server.toml", "5"),
];

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("usage: man DIRECTORY DATE")?;
    let date = arguments.next().context("usage: man DIRECTORY DATE")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let mut walt = walt_cli::command();
    // Names of subcommands become whole: `walt node show`.
    walt.build();
    pages(&walt, &[], "1", &date, directory)?;
    pages(&walt_cli::dhcp_event::command(), &[], "8", &date, directory)?;
    pages(&walt_server::settings::Flags::command(), &[], "8", &date, directory)?;
    pages(&walt_server::setup::Flags::command(), &[], "8", &date, directory)?;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?.replace("@DATE@", &date);
        fs::write(directory.join(path.file_name().context("a page has a name")?), text)?;
    }
    Ok(())
}

/// The page of a command, and those of its subcommands.
fn pages(command: &Command, above: &[&str], section: &str, date: &str, directory: &Path) -> Result<(), Error> {
    let words = [above, &[command.get_name()]].concat();
    let name = words.join("-");
    let mut man = command.clone().display_name(&name);
    // clap's own `help` of each group says what the page says.
    man = man.disable_help_subcommand(true);
    let page = Man::new(man).title(name.clone()).section(section).date(date).source("WalT").manual("WalT");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (more, examples) = help.split_once("Examples:\n").unwrap_or((&help, ""));
    // What follows the examples without being indented is more to say.
    let (examples, rest) = match examples.split("\n\n").position(|part| !part.starts_with("  ")) {
        Some(at) => {
            let parts: Vec<_> = examples.split("\n\n").collect();
            (parts[..at].join("\n\n"), parts[at..].join("\n\n"))
        }
        None => (examples.to_owned(), String::new()),
    };
    for paragraph in
        [more, &rest].into_iter().flat_map(|text| text.split("\n\n")).filter(|text| !text.trim().is_empty())
    {
        text.extend_from_slice(b".PP\n");
        let listed = paragraph.lines().any(|line| line.starts_with("  "));
        text.extend_from_slice(if listed { verbatim(paragraph) } else { escaped(paragraph) }.as_bytes());
    }
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        page.render_options_section(&mut text)?;
    }
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help" || is_ours(below))
        .collect();
    if !below.is_empty() {
        text.extend_from_slice(b".SH COMMANDS\n");
        for below in &below {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let page = format!("{name}-{}", below.get_name());
            text.extend_from_slice(
                format!(".TP\n\\fB{}\\fR({section})\n{}", escaped(&page).trim_end(), escaped(&about)).as_bytes(),
            );
        }
    }
    if !examples.trim().is_empty() {
        text.extend_from_slice(format!(".SH EXAMPLES\n{}", verbatim(examples.trim_end())).as_bytes());
    }
    let others = PAGES.iter().filter(|(page, _)| *page != name);
    let others: Vec<_> =
        others.map(|(page, section)| format!("\\fB{}\\fR({section})", escaped(page).trim_end())).collect();
    text.extend_from_slice(format!(".SH \"SEE ALSO\"\n{}\n", others.join(", ")).as_bytes());
    let path = directory.join(format!("{name}.{section}"));
    fs::write(&path, text).with_context(|| format!("can not write {}", path.display()))?;
    below.into_iter().try_for_each(|below| pages(below, &words, section, date, directory))
}

/// Whether a subcommand called `help` is one of ours, not the one that clap adds.
fn is_ours(command: &Command) -> bool {
    command.get_name() == "help" && command.get_after_help().is_some()
}

/// As it stands.
fn verbatim(text: &str) -> String {
    format!(".PP\n.nf\n{}.fi\n", escaped(text))
}

/// groff_man(7): no line begins a request, backslashes and dashes are meant as such.
fn escaped(text: &str) -> String {
    let escape = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}\n") } else { format!("{line}\n") }
    };
    text.trim_end().lines().map(escape).collect()
}
