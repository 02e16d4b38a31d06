//! What a shell offers at a half-written command line of `walt`.
//!
//! The shell's script (`walt completion SHELL` prints it) hands over the line; the description that parses command lines
//! says what may stand there; names come from the server. A server that is not there, or slow, costs names and nothing
//! else: nothing is printed but what can be typed.

mod kind;
mod line;
mod names;
mod script;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::args::{Args, CompleteArgs, Shell};
use kind::Kind;
use names::Names;
pub(crate) use script::print;

/// Prints what may stand at the cursor. It never fails: a shell would print why into the line that is being written.
pub(crate) fn run(asked: &CompleteArgs, socket: PathBuf) {
    let mut line = match asked.shell {
        Shell::Bash => line::split(asked.words.first().map_or("", String::as_str), asked.at),
        Shell::Zsh | Shell::Fish => line::Line::of_words(asked.words.clone()),
    };
    // What is being written may name the server, too.
    let named = line.words.iter().position(|word| word == "--socket").and_then(|at| line.words.get(at + 1));
    let names = Names::of(named.map_or(socket, PathBuf::from));
    let at = line.words.len().saturating_sub(1);
    let current = line.words.last().cloned().unwrap_or_default();
    let words = std::mem::take(&mut line.words).into_iter().map(OsString::from).collect();
    let mut command = with_names(Args::command(), &mut Vec::new(), &names);
    let here = std::env::current_dir().ok();
    let Ok(candidates) = clap_complete::engine::complete(&mut command, words, at, here.as_deref()) else { return };
    let mut output = String::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.is_hide_set()) {
        // What is not text can not be typed either.
        let Some(value) = candidate.get_value().to_str().filter(|value| !value.contains('\n')) else { continue };
        match asked.shell {
            Shell::Bash => output.push_str(&line.for_bash(value, &current, &asked.word_breaks)),
            Shell::Zsh => output.push_str(&with_help(&value.replace('\\', "\\\\").replace(':', "\\:"), ':', candidate)),
            Shell::Fish => output.push_str(&with_help(value, '\t', candidate)),
        }
        output.push('\n');
    }
    // A shell that has gone needs no answer.
    let _ = io::stdout().lock().write_all(output.as_bytes());
}

/// The value, and after the separator the first line of its help.
fn with_help(value: &str, separator: char, candidate: &CompletionCandidate) -> String {
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    match help.lines().next().unwrap_or_default() {
        "" => value.to_owned(),
        help => format!("{value}{separator}{help}"),
    }
}

/// `command` with a source of names at each argument that wants one.
fn with_names(command: Command, path: &mut Vec<String>, names: &Names) -> Command {
    let complete = |arg: Arg| match Kind::of(path, &arg) {
        Some(kind) => {
            let names = names.clone();
            arg.add(ArgValueCompleter::new(move |current: &std::ffi::OsStr| {
                kind.candidates(current.to_str().unwrap_or_default(), &names)
            }))
        }
        None => arg,
    };
    let mut command = command.mut_args(complete);
    let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in below {
        path.push(name.clone());
        command = command.mut_subcommand(name, |below| with_names(below, path, names));
        path.pop();
    }
    command
}
