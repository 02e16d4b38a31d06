//! `walt-server-daemon`: everything that boots the nodes of a platform, in one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    walt_server::run()
}
