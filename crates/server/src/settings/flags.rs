//! Command line and environment.

use std::path::PathBuf;

use clap::Parser;

/// Boots the nodes of a WalT platform: DHCP, TFTP, HTTP, NFS, SNTP, image store and node registry
/// in one program. It runs in the foreground and logs to stderr.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "walt-server-daemon", version, after_help = EXAMPLES)]
pub struct Flags {
    /// Configuration file [default: /etc/walt/server.toml, which may be absent]
    #[arg(long, env = "WALT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Network interface that the nodes are on
    #[arg(long, env = "WALT_INTERFACE", value_name = "IFACE")]
    pub interface: Option<String>,
    /// Where images, links and the registry live [default: /var/lib/walt]
    #[arg(long, env = "WALT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Control socket [default: /run/walt/control.sock]
    #[arg(long, env = "WALT_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory with the node agent, with x86_64/walt-node in it [default: /usr/lib/walt/agent]
    #[arg(long, env = "WALT_AGENT_DIR", value_name = "DIR")]
    pub agent_dir: Option<PathBuf>,
    /// Directory with undionly.kpxe, snponly.efi and ipxe.efi [default: /usr/lib/ipxe]
    #[arg(long, env = "WALT_IPXE_DIR", value_name = "DIR")]
    pub ipxe_dir: Option<PathBuf>,
    /// Directory with the firmware of Raspberry Pi boards that boot by themselves, as `walt media sd --out-dir` writes
    /// it [default: rpi-firmware in the state directory, which may be absent]
    #[arg(long, env = "WALT_RPI_FIRMWARE_DIR", value_name = "DIR")]
    pub rpi_firmware_dir: Option<PathBuf>,
    /// Which log lines are written, such as `info` or `walt_server=debug,info`
    #[arg(long, env = "WALT_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Check the configuration, print what would be used, and exit
    #[arg(long)]
    pub check_config: bool,
}

const EXAMPLES: &str = "\
Examples:
  # boot the PCs on eth1; all other addresses of its network are the pool
  walt-server-daemon --interface eth1

  # is the configuration right?
  walt-server-daemon --check-config

  # a second platform beside the first
  walt-server-daemon --interface eth2 --state-dir /srv/walt2 --socket /run/walt/second.sock

Each flag can be given in the environment (WALT_INTERFACE=eth1) or in the configuration file
(interface = \"eth1\"); a flag wins over the environment, and the environment over the file.";
