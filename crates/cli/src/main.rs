//! `walt`: commands the nodes and images of a WalT platform.

use std::process::ExitCode;

fn main() -> ExitCode {
    walt_cli::run()
}
