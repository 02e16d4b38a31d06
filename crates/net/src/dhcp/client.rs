//! What kind of client speaks, and which boot file it is given.

use std::net::Ipv4Addr;

use super::{Request, RequestKind, UefiLoader};
use crate::BoardSeen;

/// A kind of client, told by options 60, 77, 93 and 97, and by the maker of the network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Says `walt.node.<model>` already: an iPXE or U-Boot script of ours, or the image's own DHCP client.
    WaltNode,
    /// An iPXE that runs no script of ours yet.
    Ipxe {
        /// It says that it loads files by HTTP.
        http: bool,
    },
    /// UEFI HTTP boot, x86-64.
    HttpUefi,
    /// The boot firmware of a Raspberry Pi.
    RaspberryPi,
    /// PXE firmware of a BIOS machine.
    PxeBios,
    /// PXE firmware of a UEFI x86-64 machine.
    PxeUefi,
    /// Anything else.
    Other,
}

impl Client {
    /// Tells who sent `request`.
    pub fn of(request: &Request) -> Self {
        let says_walt = |class: &str| class.split(',').any(|class| class.starts_with("walt.node."));
        if says_walt(&request.vci) || says_walt(&request.uci) {
            return Self::WaltNode;
        }
        if request.uci.split(',').any(|class| class == "iPXE") {
            return Self::Ipxe { http: request.ipxe_has_http };
        }
        // RFC 4578 §2.1; some firmware has the type in its class identifier alone.
        let architecture = request.architecture.or_else(|| architecture_in(&request.vci));
        if request.vci.starts_with("HTTPClient") {
            return if architecture == Some(16) { Self::HttpUefi } else { Self::Other };
        }
        if !request.vci.starts_with("PXEClient") {
            return Self::Other;
        }
        if is_raspberry_pi(request) {
            return Self::RaspberryPi;
        }
        match architecture {
            Some(0) => Self::PxeBios,
            // RFC 4578 §2.1 calls 7 "EFI BC" and 9 "EFI x86-64"; x86-64 firmware sends 7 all the same.
            Some(7 | 9) => Self::PxeUefi,
            Some(16) => Self::HttpUefi,
            _ => Self::Other,
        }
    }

    /// Short name, as in [`crate::Event::Dhcp`].
    pub fn label(self) -> &'static str {
        match self {
            Self::WaltNode => "walt",
            Self::Ipxe { .. } => "ipxe",
            Self::HttpUefi => "http-uefi",
            Self::RaspberryPi => "pxe-rpi",
            Self::PxeBios => "pxe-bios",
            Self::PxeUefi => "pxe-uefi",
            Self::Other => "other",
        }
    }

    /// What goes into `file` and option 67: a path on our TFTP server, or a URL.
    ///
    /// A Raspberry Pi asks for names of its own, and a client that says `walt.node.` has its script.
    pub fn boot_file(self, server: Ipv4Addr, loader: UefiLoader) -> Option<String> {
        match self {
            Self::Ipxe { http: true } => Some(format!("http://{server}/boot/pxe/walt.ipxe")),
            Self::Ipxe { http: false } => Some("pxe/walt.ipxe".to_owned()),
            Self::PxeBios => Some("pxe/undionly.kpxe".to_owned()),
            Self::PxeUefi => Some(format!("pxe/{}", loader.file_name())),
            Self::HttpUefi => Some(format!("http://{server}/boot/pxe/{}", loader.file_name())),
            Self::WaltNode | Self::RaspberryPi | Self::Other => None,
        }
    }

    /// Option 60 of the reply: firmware takes no boot file from a server that does not repeat its class.
    pub fn class_identifier(self) -> Option<&'static str> {
        match self {
            Self::PxeBios | Self::PxeUefi | Self::RaspberryPi => Some("PXEClient"),
            Self::HttpUefi => Some("HTTPClient"),
            Self::WaltNode | Self::Ipxe { .. } | Self::Other => None,
        }
    }

    /// Option 43 of the reply.
    pub fn vendor_options(self) -> Option<&'static [u8]> {
        match self {
            // PXE 2.1 §2.2.3, PXE_DISCOVERY_CONTROL (6) bit 3: take the boot file of this offer, look for no boot
            // server and show no menu.
            Self::PxeBios | Self::PxeUefi => Some(&[6, 1, 8, 255]),
            // The very bytes of the offer that Raspberry Pi documents (boot-net.adoc, "DHCP Request / Reply"), with which
            // the boot ROM of a Pi 3B goes on to ask for `bootcode.bin`: PXE_DISCOVERY_CONTROL (6), PXE_MENU_PROMPT (10),
            // and PXE_BOOT_MENU (9), in which the firmware looks for this text.
            Self::RaspberryPi => Some(b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"),
            _ => None,
        }
    }

    /// Firmware, at the very beginning of a boot.
    pub fn is_firmware(self) -> bool {
        matches!(self, Self::PxeBios | Self::PxeUefi | Self::HttpUefi | Self::RaspberryPi)
    }

    /// Where this message shows a board to be that boots by its own firmware, except for its firmware's own (which is
    /// seen when it is given its address); `None` if it shows nothing.
    pub fn board_seen(self, request: &Request) -> Option<BoardSeen> {
        match self {
            Self::WaltNode => Some(BoardSeen::Bootloader),
            // Firmware leaves option 60 out of its DHCPREQUEST (github.com/raspberrypi/rpi-eeprom, issue 82): only a
            // discover tells. U-Boot as Debian builds it asks for its script as `U-Boot.armv8` (CONFIG_BOOTP_VCI_STRING).
            Self::Other if request.kind == RequestKind::Discover && !request.vci.starts_with("U-Boot") => {
                Some(BoardSeen::System)
            }
            _ => None,
        }
    }

    /// A client that may never send a DHCPREQUEST: what it will ask TFTP for must be ready at the offer.
    pub fn boots_from_offer(self) -> bool {
        self == Self::RaspberryPi
    }
}

fn is_raspberry_pi(request: &Request) -> bool {
    // The firmware of a Pi 4 or 5 can be told to send another MAC; its machine id begins with the type 0 and the text
    // `RPi4` or `RPi5` (eeprom-bootloader.adoc, "DHCP_OPTION97").
    crate::is_raspberry_pi(request.mac) || request.machine_id.as_deref().is_some_and(|id| id.get(1..4) == Some(b"RPi"))
}

/// `PXEClient:Arch:00007:UNDI:003016` (PXE 2.1 §2.2.3).
fn architecture_in(vci: &str) -> Option<u16> {
    let mut fields = vci.split(':').skip_while(|field| *field != "Arch").skip(1);
    fields.next()?.parse().ok()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
