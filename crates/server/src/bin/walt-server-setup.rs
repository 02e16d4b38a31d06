//! `walt-server-setup`: makes a machine a WalT server.

use std::process::ExitCode;

fn main() -> ExitCode {
    walt_server::setup::run()
}
