//! The commands of a WalT platform's users, as a library: `main` calls [`run`] and nothing else.

mod args;
mod completion;
mod device;
pub mod dhcp_event;
mod help;
mod http;
mod image;
mod log;
mod media;
mod node;
mod progress;
mod reach;
mod report;
mod table;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use http::Client;

/// Runs `walt` as the command line says.
pub fn run() -> ExitCode {
    let args = Args::parse();
    if let Command::Complete(asked) = &args.command {
        completion::run(asked, args.socket);
        return ExitCode::SUCCESS;
    }
    let client = Client::new(args.socket);
    let result = match args.command {
        Command::Node(command) => match node::run(&client, command) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Device(command) => device::run(&client, command),
        Command::Image(command) => image::run(&client, command),
        Command::Log(command) => log::run(&client, command),
        Command::Media(command) => media::run(command),
        Command::Status { json } => report::status(&client, json),
        Command::Help { command } => help::run(command),
        Command::Completion { shell } => completion::print(shell),
        // Done above: it fails for nobody.
        Command::Complete(_) => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}

/// The description of the command line of `walt`, for its man pages.
pub fn command() -> clap::Command {
    Args::command()
}
