//! The command line of `walt`.

use std::path::PathBuf;

use api::ImageFormat;
use clap::{Parser, Subcommand, ValueEnum};

use crate::device::DeviceCommand;
use crate::log::args::LogCommand;
use crate::media::args::MediaCommand;
use crate::node::args::{AcquireArgs, CpArgs, ExposeArgs, PingArgs, ReleaseArgs, RunArgs, SaveArgs, ShellArgs};

/// Shows and commands the nodes and images of a WalT platform.
#[derive(Debug, Parser)]
#[command(
    name = "walt",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  walt node show --all                  # the nodes, their images and states
  walt image clone debian-walt:12       # get an image from its registry
  walt node boot node-0a1b2c debian-walt:12
  walt node wait node-0a1b2c            # until its ssh answers
  walt node shell node-0a1b2c           # work on it
  walt node trace node-0a1b2c           # what happened when in its last boot
  walt help list                        # pages about how things work"
)]
pub(crate) struct Args {
    /// Control socket of walt-server-daemon
    #[arg(long, env = "WALT_SOCKET", value_name = "PATH", default_value = api::DEFAULT_SOCKET, global = true)]
    pub(crate) socket: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Nodes
    #[command(
        subcommand,
        after_help = "\
Examples:
  walt node show                                # names, images, states
  walt node boot my-nodes debian-walt:12        # another image for all of mine
  walt node wait my-nodes
  walt help show node-sets                      # how several nodes are named at once"
    )]
    Node(NodeCommand),
    /// All devices of the network: switches and unknown ones, too, and how they hang together
    #[command(
        subcommand,
        after_help = "\
Examples:
  walt device show                              # the server, nodes, switches, and what is not known
  walt device config unknown-18d55d type=switch snmp.version=2 lldp.explore=true
  walt device tree                              # what hangs on what
  walt help show devices                        # what switches are good for"
    )]
    Device(DeviceCommand),
    /// Images
    #[command(
        subcommand,
        after_help = "\
Examples:
  walt image clone waltplatform/pc-x86-64-default
  walt image show
  walt image ls debian-walt:12 /boot/pc-x86-64
  walt help show images                         # what makes an image one for nodes"
    )]
    Image(ImageCommand),
    /// Lines that nodes and the server have logged
    #[command(
        subcommand,
        after_help = "\
Examples:
  walt log show --realtime                      # what my nodes log from now on
  walt log show --history -5m: --platform       # what happened in the last five minutes
  walt log wait 'experiment [0-9]+ is done'
  walt help show log-ranges                     # -5m:, CHECKPOINT:, full"
    )]
    Log(LogCommand),
    /// SD cards and USB sticks that nodes start from
    #[command(
        subcommand,
        after_help = "\
No server is asked, and nobody needs to be root.

Examples:
  walt media sd --out rpi.img --firmware firmware/   # one card for every Raspberry Pi
  walt media sd --out card.img --board qemu-arm-64
  walt media usb --out usb.img                       # PCs, BIOS and UEFI
  walt media sd --help                               # where firmware comes from"
    )]
    Media(MediaCommand),
    /// What the server has done since it was started
    #[command(after_help = "\
Examples:
  walt status
  walt status --json | jq .counters")]
    Status {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Pages about how things work
    #[command(
        args_conflicts_with_subcommands = true,
        disable_help_subcommand = true,
        after_help = "\
Examples:
  walt help list
  walt help show node-sets
  walt help troubleshooting"
    )]
    Help {
        #[command(subcommand)]
        command: Option<HelpCommand>,
    },
    /// Print the script that lets a shell complete commands, options and names
    #[command(after_help = "\
The Debian package has it in place for all three.

Examples:
  source <(walt completion bash)                          # in ~/.bashrc
  walt completion zsh > ~/.zfunc/_walt                    # a directory of $fpath
  walt completion fish > ~/.config/fish/completions/walt.fish")]
    Completion {
        /// Shell
        shell: Shell,
    },
    /// What may stand at the cursor: for the scripts of `walt completion`
    #[command(hide = true)]
    Complete(CompleteArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum HelpCommand {
    /// List the topics
    #[command(after_help = "\
Examples:
  walt help list")]
    List,
    /// Show the page on a topic
    #[command(after_help = "\
On a terminal it is shown by $PAGER, else less.

Examples:
  walt help show node-sets
  walt help node-sets                # the same
  walt help show logs | grep checkpoint")]
    Show {
        /// Topic
        topic: String,
    },
    /// The page on this topic
    #[command(external_subcommand)]
    Topic(Vec<String>),
}

/// Shells that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The half-written line.
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteArgs {
    /// Who asks
    pub(crate) shell: Shell,
    /// Position of the cursor in the line, in bytes
    #[arg(long, default_value_t = usize::MAX)]
    pub(crate) at: usize,
    /// Characters that bash splits words at
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub(crate) word_breaks: String,
    /// The line as it is (bash), or its words
    #[arg(last = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List my nodes, or all
    #[command(after_help = "\
A node is yours if it boots an image of yours, and free if it boots the default image of its model.

Examples:
  walt node show
  walt node show --all              # free ones, those of others and unknown devices, too
  walt node show node-0a1b2c        # all that is known of one
  walt node show --all --names-only
  walt node show --json | jq '.[].ip'")]
    Show {
        /// This node alone, with all that is known of it (name, mac or ip)
        node: Option<String>,
        /// Those of nobody and of others, and unknown devices, too
        #[arg(long)]
        all: bool,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
        /// Nothing but names, one a line
        #[arg(long, conflicts_with_all = ["node", "json"])]
        names_only: bool,
    },
    Run(RunArgs),
    Shell(ShellArgs),
    Cp(CpArgs),
    Ping(PingArgs),
    Expose(ExposeArgs),
    Save(SaveArgs),
    Acquire(AcquireArgs),
    Release(ReleaseArgs),
    /// Wait until a node is booted: until its ssh answers
    #[command(after_help = "\
Examples:
  walt node wait node-0a1b2c
  walt node wait my-nodes
  walt node wait node-0a1b2c --timeout 120 && walt node shell node-0a1b2c")]
    Wait {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
        /// Seconds to wait at most [default: a day]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Have nodes boot an image, from now on
    #[command(
        alias = "deploy",
        after_help = "\
A node is rebooted if it is up. Until the image is ready, it keeps the one that it has. A node that boots an image of \
another user is asked for first.

Examples:
  walt node boot node-0a1b2c debian-walt:12
  walt node boot node-0a1b2c,node-0a1b2d debian-walt:12
  walt node boot node-0a1b2c default              # the default image of its model
  walt node boot --no-reboot node-0a1b2c tiny     # at its next boot"
    )]
    Boot {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
        /// Name of an image on the server, or `default`
        image: String,
        /// Do not reboot it: its next boot gets the image
        #[arg(long)]
        no_reboot: bool,
        /// Nodes of other users, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// Reboot nodes
    #[command(after_help = "\
The OS of a node is asked to reboot. If it does not answer, the node is reset if there is a way to do so: virtual nodes can \
always be.

Examples:
  walt node reboot node-0a1b2c
  walt node reboot my-nodes && walt node wait my-nodes
  walt node reboot --hard vm1            # do not ask: press the reset button")]
    Reboot {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
        /// Do not ask the OS
        #[arg(long)]
        hard: bool,
        /// Nodes of other users, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// Make a virtual node, and switch it on
    #[command(after_help = "\
A virtual node is a QEMU machine on the server that boots over the network as a PC does. It is kept on: when it is switched \
off from within, it starts again. `walt node config` lists its settings; those of its hardware count from its next boot on.

Examples:
  walt node create vm1 && walt node wait vm1
  walt node create vm2 cpu.cores=4 ram=2G
  walt node create vm3 disks=8G networks=walt-net,home-net    # with a disk, and on a network of its own")]
    Create {
        /// Its name: lower-case letters, digits and dashes
        name: String,
        /// Settings
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Remove virtual nodes, with their disks
    #[command(after_help = "\
Examples:
  walt node remove vm1
  walt node remove vm1,vm2")]
    Remove {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
        /// Nodes of other users, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// Look at the console of a virtual node, and type on it
    #[command(after_help = "\
What it showed last comes first. `Ctrl-a d` leaves it, `Ctrl-a a` types a Ctrl-a. What a console shows is in the logs, too, \
as stream `console`.

Examples:
  walt node console vm1
  walt log show --history -5m: --issuers vm1 --streams console")]
    Console {
        /// Name, mac or ip
        node: String,
        /// A node of another user, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// Show or change settings of nodes
    #[command(after_help = "\
Settings:
  netsetup       LAN, or NAT: the server is the node's way to other networks (from its next boot on)
  mount.persist  true or false: whether the node has /persist (from its next boot on)
and of virtual nodes, from their next boot on:
  cpu.cores      number of processors
  ram            such as 512M or 2G
  disks          none, or sizes such as 8G,32G
  networks       walt-net, then networks among virtual nodes such as walt-net,home-net
An empty value brings the default back.

Examples:
  walt node config vm1                          # all settings
  walt node config my-nodes netsetup=NAT
  walt node config vm1 ram=2G cpu.cores=4 && walt node reboot vm1
  walt node config vm1 ram=                     # the default")]
    Config {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
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
    /// Give a node another name
    #[command(after_help = "\
Examples:
  walt node rename node-0a1b2c kitchen")]
    Rename {
        /// Name, mac or ip
        node: String,
        /// New name: lower-case letters, digits and dashes
        name: String,
        /// A node of another user, too, without a question
        #[arg(long)]
        force: bool,
    },
    /// Forget a node that is off
    #[command(after_help = "\
Its name is free then, and its image is no longer kept for it. When it boots again, it is a new node.

Examples:
  walt node forget node-0a1b2c")]
    Forget {
        /// Name, mac or ip
        node: String,
        /// Even if it is up, or another user's
        #[arg(long)]
        force: bool,
    },
    /// Switch nodes on that are off
    #[command(after_help = "\
A magic packet (Wake-on-LAN) is sent to each; only machines whose firmware is set to heed it do.

Examples:
  walt node wake node-0a1b2c && walt node wait node-0a1b2c")]
    Wake {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
    },
    /// Have nodes show which ones they are
    #[command(after_help = "\
The image's own program does it, /bin/blink; most boards blink with a light.

Examples:
  walt node blink node-0a1b2c           # for a minute, or until Ctrl-C
  walt node blink my-nodes 5")]
    Blink {
        /// Nodes: names, macs or ips with commas between them, `my-nodes`, `free-nodes`, `all-nodes`
        nodes: String,
        /// For so many seconds
        #[arg(default_value_t = 60)]
        seconds: u64,
    },
    /// Show what happened when in a node's last boot, and where it hangs, if it does
    #[command(after_help = "\
Examples:
  walt node trace node-0a1b2c
  walt node trace node-0a1b2c --json | jq '.steps[] | select(.status == \"failed\")'")]
    Trace {
        /// Name, mac or ip
        node: String,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images on the server
    #[command(after_help = "\
Examples:
  walt image show
  walt image show --json | jq '.[].name'")]
    Show {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Get an image from its registry, or its newest content
    #[command(after_help = "\
Examples:
  walt image clone waltplatform/pc-x86-64-default
  walt image clone localhost:5000/debian-walt:12
  walt image clone --platform linux/arm64 localhost:5000/debian-walt:12")]
    Clone {
        /// `[registry/]repository[:tag]`
        image: String,
        /// The variant for this platform, such as `linux/arm64`; else those that are there or that nodes want
        #[arg(long)]
        platform: Option<String>,
    },
    /// Take images from an archive (what `docker save` or `skopeo copy ... oci-archive:` writes)
    #[command(after_help = "\
Examples:
  walt image import debian.tar
  walt image import --name debian-walt:12 debian.tar
  docker save debian-walt:12 | walt image import -")]
    Import {
        /// Archive, or `-` for standard input
        file: PathBuf,
        /// Name to give to the image, if the archive holds one alone
        #[arg(long)]
        name: Option<String>,
    },
    /// Write an image into an archive
    #[command(after_help = "\
Examples:
  walt image export debian-walt:12 debian.tar
  walt image export --format docker debian-walt:12 - | docker load
  walt image export --platform linux/arm64 debian-walt:12 debian-arm64.tar")]
    Export {
        /// Name of an image on the server
        image: String,
        /// Archive, or `-` for standard output
        file: PathBuf,
        /// Format of the archive
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The variant for this platform alone, such as `linux/arm64`
        #[arg(long)]
        platform: Option<String>,
    },
    /// List a directory of an image
    #[command(after_help = "\
Examples:
  walt image ls debian-walt:12 /boot/pc-x86-64")]
    Ls {
        /// Name of an image on the server
        image: String,
        /// Path in the image
        #[arg(default_value = "/")]
        path: String,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print a file of an image
    #[command(after_help = "\
Examples:
  walt image cat debian-walt:12 /etc/os-release")]
    Cat {
        /// Name of an image on the server
        image: String,
        /// Path in the image
        path: String,
    },
    /// Forget an image, and free the disk of what nothing else uses
    #[command(after_help = "\
An image that a node boots is not removed.

Examples:
  walt image remove debian-walt:11")]
    Remove {
        /// Name of an image on the server
        image: String,
    },
}

/// `key=value`.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// Archive format.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    /// OCI image layout
    #[default]
    Oci,
    /// What `docker load` reads
    Docker,
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Oci => Self::Oci,
            Format::Docker => Self::Docker,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        Args::command().debug_assert();
        let mut commands = vec![Args::command()];
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let shown = !command.is_hide_set();
            assert!(!shown || help.contains("Examples:"), "{} has no examples", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
