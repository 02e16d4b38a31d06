//! The command line of `walt device`.

use std::net::IpAddr;

use clap::Subcommand;

use crate::args::setting;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List all devices: the server, nodes, switches, and what is not known
    #[command(after_help = "\
Where a device hangs is known of switches that may be asked (`walt device config --help`), and of nodes that have heard \
theirs.

Examples:
  walt device show
  walt device show switch-18d55d        # all that is known of one
  walt device show all-switches
  walt device show --json | jq '.[] | select(.kind == \"unknown\") | .mac'")]
    Show {
        /// These devices alone, with all that is known of them: names, macs, ips, `server`, `all-switches` and others
        devices: Option<String>,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give a device another name
    #[command(after_help = "\
Examples:
  walt device rename switch-18d55d rack-1")]
    Rename {
        /// Name, mac or ip
        device: String,
        /// New name: lower-case letters, digits and dashes
        name: String,
        /// A node of another user, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// See whether devices answer
    #[command(after_help = "\
Examples:
  walt device ping switch-18d55d
  walt device ping -c 1 all-switches")]
    Ping {
        /// Devices: names, macs or ips with commas between them, `all-switches`, `all-devices`
        devices: String,
        /// How often each is asked, once a second
        #[arg(short, long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// Let programs here reach a TCP port of a device
    #[command(after_help = "\
Until Ctrl-C, connections to the port here go on to the device's.

Examples:
  walt device expose switch-18d55d 80 8080      # http://127.0.0.1:8080/ is the page of the switch")]
    Expose {
        /// Name, mac or ip
        device: String,
        /// Port on the device
        #[arg(value_name = "DEVICE_PORT", value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Port here; 0 is any that is free
        local_port: u16,
        /// Address here
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        bind: IpAddr,
    },
    /// Forget a device
    #[command(after_help = "\
If it asks for an address again, it is a new device.

Examples:
  walt device forget unknown-a2f2d3")]
    Forget {
        /// Name, mac or ip
        device: String,
        /// Even if it is a node that is up, or another user's
        #[arg(long)]
        force: bool,
    },
    /// Show or change settings of devices
    #[command(after_help = "\
Settings of all devices:
  netsetup         LAN, or NAT: other networks are reached through the server
of those that are no nodes:
  type             switch, or unknown
of switches:
  snmp.version     1 or 2
  snmp.community   what the switch wants to hear; one that may write, if it is to cut power
  snmp.address     IPv4 address to speak with it, or none: that of its lease
  snmp.port        UDP port
  lldp.explore     true: it is asked what hangs on its ports
  poe.reboots      true: it cuts the power of nodes that are to reboot and do not answer
  poe.delay        seconds without power
An empty value brings the default back. `walt node config --help` lists the settings of nodes.

Examples:
  walt device config rack-1                                       # all settings
  walt device config unknown-18d55d type=switch snmp.community=private lldp.explore=true
  walt device config all-switches poe.reboots=true")]
    Config {
        /// Devices: names, macs or ips with commas between them, `all-switches`, `all-nodes`, `all-devices`
        devices: String,
        /// Settings to change; none to show all
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
        /// Nodes of other users, too, without a question
        #[arg(long)]
        force: bool,
        /// JSON, for programs
        #[arg(long, conflicts_with = "settings")]
        json: bool,
    },
    /// Draw the network, from the server down
    #[command(after_help = "\
Behind each device stands in brackets its own port that leads up. What hangs where nobody knows comes last.

Examples:
  walt device tree
  walt device tree --json")]
    Tree {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Ask all switches now what hangs on them
    #[command(after_help = "\
They are asked every ten minutes anyway, those whose lldp.explore is true.

Examples:
  walt device rescan && walt device tree")]
    Rescan {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
}
