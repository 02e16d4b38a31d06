//! Stages of a boot, and the words for what was seen.

use super::Seen;
use crate::registry::StepRow;

/// How far a boot has come, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The machine's firmware asks for an address and a boot file.
    Firmware,
    /// iPXE runs.
    Ipxe,
    /// The bootloader has said which model it is.
    Bootloader,
    /// The second-stage script and what it names are being loaded.
    Loading,
    /// The image is mounted.
    Mounted,
    /// The agent runs.
    Agent,
    /// ssh answers.
    Up,
}

impl Stage {
    /// Stage that a kind of DHCP client shows; `None` for one that shows nothing about a boot.
    pub(super) fn of_dhcp_client(client: &str) -> Option<Self> {
        match client {
            "pxe-bios" | "pxe-uefi" | "pxe-rpi" | "http-uefi" => Some(Self::Firmware),
            "ipxe" => Some(Self::Ipxe),
            "walt" => Some(Self::Bootloader),
            _ => None,
        }
    }

    /// Stage that a recorded step shows.
    pub(super) fn of_step(step: &StepRow) -> Option<Self> {
        match step.name.as_str() {
            name if name.starts_with("dhcp-") => {
                Self::of_dhcp_client(step.detail.split(' ').next().unwrap_or_default())
            }
            // The firmware's own loaders are no part of the image.
            "file" if step.ok && !step.detail.split(' ').nth(1).is_some_and(is_loader) => Some(Self::Loading),
            "nfs-mount" if step.ok => Some(Self::Mounted),
            "ssh-ready" => Some(Self::Up),
            name if name.starts_with("agent:") => Some(Self::Agent),
            _ => None,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "iPXE",
            Self::Bootloader => "bootloader",
            Self::Loading => "loading kernel",
            Self::Mounted => "kernel",
            Self::Agent => "agent",
            Self::Up => "up",
        }
    }
}

fn is_loader(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix("boot/").unwrap_or(path);
    path.starts_with("pxe/")
}

/// Name, detail and outcome of the step that `seen` makes; `None` if it makes none.
pub(super) fn describe(seen: &Seen, reached: Stage) -> Option<(String, String, bool)> {
    let step = match seen {
        Seen::Dhcp { kind, client, ip } => {
            // The OS of a node that is up renews its lease: no part of its boot.
            if *client == "other" && reached >= Stage::Agent {
                return None;
            }
            let detail = ip.map_or_else(|| (*client).to_owned(), |ip| format!("{client} {ip}"));
            (format!("dhcp-{kind}"), detail, !matches!(*kind, "nak" | "decline"))
        }
        Seen::Registration { step, detail, ok } => ((*step).to_owned(), detail.clone(), *ok),
        // A board's firmware looks for many files that need not be there, and asks for others only to know whether they
        // are (boot-net.adoc, "TFTP file read"): nothing fails by that.
        Seen::File { service: "firmware", path, bytes, duration, error } => {
            let harmless = matches!(error.as_deref(), None | Some("not found" | "aborted by the client"));
            let detail = match error {
                None => format!("tftp {path} {bytes} B in {:.3} s", duration.as_secs_f64()),
                Some(error) => format!("tftp {path}: {error}"),
            };
            ("firmware-file".to_owned(), detail, harmless)
        }
        Seen::File { service, path, bytes, duration, error } => {
            let took = duration.as_secs_f64();
            let detail = match error {
                None => format!("{service} {path} {bytes} B in {took:.3} s"),
                Some(error) => format!("{service} {path}: {error} after {bytes} B"),
            };
            ("file".to_owned(), detail, error.is_none())
        }
        Seen::Mounted { image } => {
            ("nfs-mount".to_owned(), format!("image {}", image.get(..12).unwrap_or(image)), true)
        }
        Seen::MountRefused { path, reason } => ("nfs-mount".to_owned(), format!("{path}: {reason}"), false),
        Seen::Agent(step) => {
            let detail = format!("{} (kernel up {:.1} s)", step.detail, step.uptime_ms as f64 / 1000.0);
            (format!("agent:{}", step.name), detail.trim_start().to_owned(), step.ok)
        }
        Seen::Up if reached == Stage::Up => ("reconnected".to_owned(), "the node is up".to_owned(), true),
        Seen::Up => ("ssh-ready".to_owned(), "the node is up".to_owned(), true),
        Seen::Lost => ("connection-lost".to_owned(), "the node does not answer any more".to_owned(), false),
        Seen::RebootRequested => ("reboot-requested".to_owned(), "the node has agreed".to_owned(), true),
    };
    Some(step)
}
