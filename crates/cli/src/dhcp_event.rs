//! `walt-dhcp-event`: run by a DHCP server that is not ours, at each lease.
//!
//! It must never hold that server up: it gives up after two seconds, whatever happens.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use api::LeaseReport;
use clap::{CommandFactory, Parser};

use crate::http::{self, Client};
use crate::report;

/// Longest time that the daemon may take for each part of the exchange.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells walt-server-daemon of a lease that another DHCP server has acknowledged
#[derive(Debug, Parser)]
#[command(
    name = "walt-dhcp-event",
    version,
    after_help = "\
Examples:
  walt-dhcp-event --mac 52:54:00:00:00:01 --ip 192.168.152.10 --vci walt.node.pc-x86-64
  walt-dhcp-event commit '' walt.node.pc-x86-64 192.168.152.10 52:54:00:00:00:01 pc1 0 unknown

The second form is the one of WalT's dhcpd.conf: commit VCI UCI IP MAC NAME KNOWN TYPE. Other events than
`commit` are ignored. Behind the event nothing is taken for an option. Nothing waits for what the daemon does
with the lease."
)]
struct Args {
    /// Control socket of walt-server-daemon
    #[arg(long, env = "WALT_SOCKET", value_name = "PATH", default_value = api::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Ethernet address of the client
    #[arg(long, required_unless_present = "positional")]
    mac: Option<String>,
    /// Address that it was given
    #[arg(long, required_unless_present = "positional")]
    ip: Option<String>,
    /// Vendor class identifier (option 60)
    #[arg(long, default_value = "")]
    vci: String,
    /// User class (option 77)
    #[arg(long, default_value = "")]
    uci: String,
    /// Host name (option 12)
    #[arg(long, default_value = "")]
    host_name: String,
    /// `commit VCI UCI IP MAC [NAME [KNOWN [TYPE]]]`
    // Behind the event everything is a value: clients send what they like, `--` and `--socket=…` included.
    #[arg(conflicts_with_all = ["mac", "ip", "vci", "uci", "host_name"], value_name = "EVENT", num_args = 1..,
        trailing_var_arg = true)]
    positional: Vec<String>,
}

/// The description of its command line, for its man page.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program as its command line says.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let client = Client::with_patience(&args.socket, PATIENCE);
    let report = match lease(args) {
        Ok(Some(report)) => report,
        Ok(None) => return ExitCode::SUCCESS,
        Err(reason) => return report::failure(&anyhow::Error::msg(reason)),
    };
    match client.send("POST", "/v1/leases", http::json(&report)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error.into()),
    }
}

/// The lease that the command line tells of; `None` for an event that is none.
fn lease(args: Args) -> Result<Option<LeaseReport>, String> {
    let Args { mac: Some(mac), ip: Some(ip), vci, uci, host_name, .. } = args else {
        let words: Vec<_> = args.positional.iter().map(String::as_str).collect();
        return match words[..] {
            ["commit", vci, uci, ip, mac, ref rest @ ..] if rest.len() <= 3 => Ok(Some(LeaseReport {
                mac: padded_mac(mac),
                ip: ip.into(),
                vci: vci.into(),
                uci: uci.into(),
                host_name: rest.first().copied().unwrap_or_default().into(),
            })),
            ["commit", ..] => Err("expected commit VCI UCI IP MAC [NAME [KNOWN [TYPE]]]".into()),
            _ => Ok(None),
        };
    };
    Ok(Some(LeaseReport { mac: padded_mac(&mac), ip, vci, uci, host_name }))
}

/// dhcpd's `binary-to-ascii` writes `0:1:a:…`: each byte is filled up to two digits.
fn padded_mac(mac: &str) -> String {
    mac.split(':').map(|byte| format!("{byte:0>2}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<LeaseReport>, String> {
        let args = Args::try_parse_from(std::iter::once("walt-dhcp-event").chain(args.iter().copied()));
        lease(args.map_err(|error| error.to_string())?)
    }

    fn report(uci: &str, name: &str) -> LeaseReport {
        LeaseReport {
            mac: "52:54:00:00:0a:01".into(),
            ip: "10.0.0.1".into(),
            vci: String::new(),
            uci: uci.into(),
            host_name: name.into(),
        }
    }

    #[test]
    fn both_forms_tell_the_same() {
        let flags = ["--mac", "52:54:00:00:0a:01", "--ip", "10.0.0.1", "--uci", "walt.node.pc-x86-64"];
        assert_eq!(parse(&flags), Ok(Some(report("walt.node.pc-x86-64", ""))));
        let words = ["commit", "", "walt.node.pc-x86-64", "10.0.0.1", "52:54:0:0:a:1", "pc1", "0", "unknown"];
        assert_eq!(parse(&words), Ok(Some(report("walt.node.pc-x86-64", "pc1"))));
        assert_eq!(parse(&words[..5]), Ok(Some(report("walt.node.pc-x86-64", ""))));
    }

    #[test]
    fn what_a_client_sends_is_no_option() {
        for class in ["-", "--", "-h", "--help", "--socket=/x", "--mac", "--$(reboot)'"] {
            let words = ["commit", class, class, "10.0.0.1", "52:54:0:0:a:1", class, "0", "unknown"];
            let expected = LeaseReport { vci: class.into(), ..report(class, class) };
            assert_eq!(parse(&words), Ok(Some(expected.clone())), "{class}");
            // Options of ours stand before the event, and may end with `--`.
            for before in [&["--"][..], &["--socket", "/run/x"], &["--socket=/run/x", "--"]] {
                assert_eq!(parse(&[before, &words].concat()), Ok(Some(expected.clone())), "{before:?} {class}");
            }
        }
        assert!(parse(&["--mca", "52:54:00:00:0a:01"]).is_err());
    }

    #[test]
    fn other_events_are_ignored_and_half_ones_refused() {
        assert_eq!(parse(&["release", "", "", "10.0.0.1", "52:54:0:0:a:1"]), Ok(None));
        assert!(parse(&["commit", "", "10.0.0.1"]).is_err());
        assert!(parse(&["--mac", "52:54:00:00:0a:01"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
