//! The command line of `walt`.

use std::path::PathBuf;

use api::ImageFormat;
use clap::{Parser, Subcommand, ValueEnum};

/// Shows and commands the nodes and images of a WalT platform.
#[derive(Debug, Parser)]
#[command(
    name = "walt",
    version,
    after_help = "\
Examples:
  walt node show                        # the nodes, their images and states
  walt image clone debian-walt:12       # get an image from its registry
  walt node boot node-0a1b2c debian-walt:12
  walt node wait node-0a1b2c            # until its ssh answers
  walt node trace node-0a1b2c           # what happened when in its last boot"
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
    #[command(subcommand)]
    Node(NodeCommand),
    /// Images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Lines that nodes and the server have logged
    #[command(subcommand)]
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes
    #[command(after_help = "\
Examples:
  walt node show
  walt node show --all              # other devices that asked for an address, too
  walt node show node-0a1b2c        # all that is known of one
  walt node show --json | jq '.[].ip'")]
    Show {
        /// This node alone, with all that is known of it (name, mac or ip)
        node: Option<String>,
        /// Unknown devices, too
        #[arg(long)]
        all: bool,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Wait until a node is booted: until its ssh answers
    #[command(after_help = "\
Examples:
  walt node wait node-0a1b2c
  walt node wait my-nodes
  walt node wait node-0a1b2c --timeout 120 && ssh root@node-0a1b2c")]
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

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print lines of the past, of the present, or both
    #[command(after_help = "\
RANGE is `full`, `none` or [START]:[END]. START and END are times before now (-40s, -5m, -1h, -10d), names of \
checkpoints, or nothing.

Examples:
  walt log show --realtime                                  # what my nodes log from now on
  walt log show --history -5m: --issuers node-0a1b2c        # and what one did in the last five minutes
  walt log show --history begun:ended --streams '^exp1' 'result: [0-9]+'
  walt log show --history full --format '{timestamp:%s.%f};{issuer};{line}' > lines.csv
  walt log show --realtime --platform                       # nodes that come, boot and fail")]
    Show {
        /// Lines of the past
        #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
        history: Option<String>,
        /// Lines that come from now on, until Ctrl-C
        #[arg(long)]
        realtime: bool,
        #[command(flatten)]
        selection: LogSelection,
        /// How a line is printed, as Python's format strings do, with the fields timestamp, issuer, stream and line
        #[arg(long, value_name = "FORMAT", default_value = "{timestamp:%H:%M:%S.%f} {issuer}.{stream} -> {line}")]
        format: String,
        /// A line of JSON for each, for programs
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// Wait until a line comes
    #[command(after_help = "\
Examples:
  walt log wait 'experiment [0-9]+ is done'
  walt log wait --mode ALL --issuers node-0a1b2c,node-0a1b2d DONE    # until each of them has said it
  walt log wait --timeout 60 --streams '^exp1$' DONE")]
    Wait {
        #[command(flatten)]
        selection: LogSelection,
        /// Whether one such line is enough, or each issuer must send one
        #[arg(long, value_enum, ignore_case = true, default_value = "ANY")]
        mode: WaitMode,
        /// Lines of so many seconds before now count, too
        #[arg(long, value_name = "SECONDS")]
        time_margin: Option<u32>,
        /// Fail after so many seconds [default: never]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Give a moment a name, to begin or end a range with
    #[command(after_help = "\
Examples:
  walt log add-checkpoint begun                                # now
  walt log add-checkpoint begun --date '2026-11-25 14:30:00'
  walt log show --history begun:")]
    AddCheckpoint {
        /// Name: letters, digits, `-`, `_`, `.`
        name: String,
        /// Another moment than now, in this machine's time zone
        #[arg(long, value_name = "DATE")]
        date: Option<String>,
    },
    /// List my checkpoints
    #[command(after_help = "\
Examples:
  walt log list-checkpoints")]
    ListCheckpoints {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a checkpoint; the lines stay
    #[command(after_help = "\
Examples:
  walt log remove-checkpoint begun")]
    RemoveCheckpoint {
        /// Name
        name: String,
    },
}

/// `key=value`.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// Which lines.
#[derive(Debug, clap::Args)]
pub(crate) struct LogSelection {
    /// Nodes whose lines are wanted, and `server` [default: my-nodes]
    #[arg(long, value_name = "SET", visible_aliases = ["nodes", "emitters"])]
    pub(crate) issuers: Option<String>,
    /// Expression that matches in the stream's name
    #[arg(long, value_name = "REGEX")]
    pub(crate) streams: Option<String>,
    /// Events of the platform: nodes that come, boot steps, failures
    #[arg(long, conflicts_with_all = ["issuers", "streams"])]
    pub(crate) platform: bool,
    /// The daemon's own log
    #[arg(long, conflicts_with_all = ["issuers", "streams"])]
    pub(crate) server: bool,
    /// Expression that matches in the line
    pub(crate) regex: Option<String>,
}

/// When waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum WaitMode {
    /// With the first line
    Any,
    /// Once each issuer has sent one
    All,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MediaCommand {
    /// Write the SD card of a board, as an image for `dd` or as a directory
    #[command(after_help = sd_help())]
    Sd {
        #[command(flatten)]
        target: MediaTarget,
        /// For every Raspberry Pi (`rpi`), or for this model alone (`rpi-4-b`) [default: rpi]
        #[arg(long, value_name = "MODEL")]
        model: Option<String>,
        /// For a board that has its U-Boot elsewhere, in flash memory for example
        #[arg(long, value_name = "BOARD", conflicts_with = "model")]
        board: Option<String>,
        /// Where firmware, U-Boot and device trees are
        #[arg(long, value_name = "DIR", default_value = "/")]
        firmware: PathBuf,
    },
    /// Write a USB stick for PCs that can not boot over the network by themselves (BIOS and UEFI)
    #[command(after_help = "\
iPXE, SYSLINUX and GRUB are not part of WalT: on Debian, `apt install ipxe syslinux syslinux-common mtools \
grub-efi-amd64-bin` brings them.

Examples:
  walt media usb --out usb.img
  dd if=usb.img of=/dev/sdX bs=4M conv=fsync status=progress")]
    Usb {
        /// Image to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write over a file that is there
        #[arg(long)]
        force: bool,
        /// JSON, for programs
        #[arg(long)]
        json: bool,
        /// Root directory below which the packages are installed or unpacked
        #[arg(long, value_name = "DIR", default_value = "/")]
        firmware: PathBuf,
    },
}

/// What `walt media sd --help` says at its end: examples, and the boards of the table of models.
fn sd_help() -> String {
    let boards: String = boot::MODELS
        .iter()
        .filter(|model| model.bootloader == boot::Bootloader::UBoot)
        .map(|model| {
            let option = if model.generation.is_some() { "--model" } else { "--board" };
            format!("  {:21} {}\n", format!("{option} {}", model.name), model.description)
        })
        .collect();
    format!(
        "\
One card serves every Raspberry Pi. Their firmware and U-Boot are not part of WalT: the card gets them from \
--firmware, which is a root directory below which Debian's packages raspi-firmware, u-boot-rpi and linux-image-* are \
installed or unpacked, or a directory that has the files by their names on the card. What is missing is said, with the \
commands that bring it.

Boards:
{boards}
Examples:
  walt media sd --out rpi.img --firmware firmware/
  walt media sd --out rpi.img --firmware firmware/ --json | jq '.left_out'
  dd if=rpi.img of=/dev/sdX bs=4M conv=fsync status=progress
  walt media sd --out-dir rpi-firmware/ --firmware firmware/   # for boards that need no card
  walt media sd --out card.img --board qemu-arm-64"
    )
}

/// Where a card is written.
#[derive(Debug, clap::Args)]
pub(crate) struct MediaTarget {
    /// Image to write
    #[arg(long, value_name = "FILE", required_unless_present = "out_dir", conflicts_with = "out_dir")]
    pub(crate) out: Option<PathBuf>,
    /// Directory to write the files into
    #[arg(long, value_name = "DIR")]
    pub(crate) out_dir: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long)]
    pub(crate) force: bool,
    /// JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
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
            let leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || help.contains("Examples:"), "{} has no examples", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
