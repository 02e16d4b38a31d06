//! The commands of a WalT platform's users, as a library: `main` calls [`run`] and nothing else.

mod args;
pub mod dhcp_event;
mod http;
mod image;
mod log;
mod media;
mod node;
mod progress;
mod report;
mod table;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use http::Client;

/// Runs `walt` as the command line says.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let client = Client::new(args.socket);
    let result = match args.command {
        Command::Node(command) => match node::run(&client, command) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Image(command) => image::run(&client, command),
        Command::Log(command) => log::run(&client, command),
        Command::Media(command) => media::run(command),
        Command::Status { json } => report::status(&client, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
