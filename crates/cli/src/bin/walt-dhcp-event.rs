//! `walt-dhcp-event`: hands a lease of another DHCP server to walt-server-daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    walt_cli::dhcp_event::run()
}
