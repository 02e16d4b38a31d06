//! Raspberry Pi boards that boot by themselves, as far as a server sees them: what their firmware and U-Boot say and ask,
//! in the order and with the habits that are known of each, and what they would hang on.

mod dhcp;
mod kind;
mod tftp;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;
use crate::lab::{Lab, SERVER};
use dhcp::{Client, Lease};
use kind::{Machine, Stage};
use tftp::{Tftp, Want};

pub use kind::{KINDS, Kind};
pub use tftp::Answer;

/// PXE 2.1 §2.2.1, as boot-net.adoc has it.
const PXE_CLASS: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";
/// An answer that takes longer is one that the firmware waits for: it looks for dozens of files that are not there.
const AT_ONCE: Duration = Duration::from_millis(500);

/// One board on the lab's bridge.
#[derive(Debug)]
pub struct Board {
    /// What it is.
    pub kind: &'static Kind,
    /// Its MAC address, `hh:hh:hh:hh:hh:hh`.
    pub mac: String,
    host: Host,
    hardware: [u8; 6],
    serial: u32,
    boots: u32,
}

/// What a board's firmware has loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Each file that came whole, under the name on the card; the last one of several.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Each path that was refused, as it was asked for.
    pub refused: Vec<String>,
    /// The longest that a refusal took.
    pub slowest_refusal: Duration,
}

/// What the second stage came to.
#[derive(Debug)]
pub struct Second {
    /// The answer to `start.uboot`.
    pub script: Answer,
    client: Tftp,
}

impl Board {
    /// Plugs a board of this kind into the bridge. `name` is a word of at most 10 letters, `number` makes it unique.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug_in(lab: &Lab, kind: &'static Kind, name: &str, number: u8) -> Result<Self> {
        let [a, b, c] = kind.oui;
        let hardware = [a, b, c, 0x5e, 0, number];
        let mac = hardware.map(|byte| format!("{byte:02x}")).join(":");
        let host = Host::plug_in(lab, name, &mac)?;
        Ok(Self { kind, mac, host, hardware, serial: 0xd978_0500 | u32::from(number), boots: 0 })
    }

    /// The board's own directory on a TFTP server.
    pub fn directory(&self) -> String {
        if self.kind.mac_prefix { self.mac.replace(':', "-") } else { format!("{:08x}", self.serial) }
    }

    /// Switches the board on: its firmware asks DHCP and loads all it needs to start U-Boot.
    ///
    /// # Errors
    /// With what the firmware would stop at.
    pub fn power_on(&mut self) -> Result<Loaded> {
        self.power_on_paced(Duration::ZERO)
    }

    /// As [`Board::power_on`], with a wait before each acknowledgement of a block of `start*.elf`, or of the kernel where
    /// there is none.
    ///
    /// # Errors
    /// As [`Board::power_on`].
    pub fn power_on_paced(&mut self, pace: Duration) -> Result<Loaded> {
        let lease = self.ask_dhcp(true, PXE_CLASS)?;
        let kind = self.kind;
        let mut firmware = Firmware {
            local: lease.ip,
            directory: format!("{}/", self.directory()),
            prefix: String::new(),
            dtb: kind.dtb,
            pace,
            loaded: Loaded::default(),
        };
        let stages = kind.rom.iter().chain([&kind.loader, &kind.firmware]);
        self.host.inside(|| {
            for stage in stages {
                firmware.run(stage, kind.filter)?;
            }
            Ok(firmware.loaded)
        })
    }

    /// Lets the board answer ARP or not, as the firmware of a Pi 3B once it loads files (boot-net.adoc, "ARP check can
    /// fail to respond in the middle of TFTP transaction").
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn answers_arp(&self, answers: bool) -> Result<()> {
        // Linux, ip-sysctl.rst: 8 is "do not reply for all local addresses".
        let value = if answers { "0" } else { "8" };
        self.host.inside(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", value).context("cannot set arp_ignore")
        })
    }

    /// Whether anybody answers the firmware's DHCP, asked once.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_offered_an_address(&mut self) -> Result<bool> {
        let mut client = self.client(true, PXE_CLASS);
        client.tries = (1, Duration::from_millis(1500));
        self.host.inside(|| Ok(client.ask(|_| Ok(())).is_ok()))
    }

    /// The U-Boot that the firmware has started, as Debian builds it, on a board without a card: its environment tries PXE
    /// and then `boot.scr.uimg`. Gives back that script.
    ///
    /// # Errors
    /// When it gets no script, and would stop at its prompt.
    pub fn uboot(&mut self) -> Result<Vec<u8>> {
        let lease = self.ask_dhcp(false, b"U-Boot.armv8")?;
        let address: String = lease.ip.octets().iter().map(|byte| format!("{byte:02X}")).collect();
        let dashed = format!("01-{}", self.mac.replace(':', "-"));
        self.host.inside(|| {
            let mut client = uboot_client(lease.ip);
            // bootcmd_pxe: `dhcp` loads a file named by the address; `pxe get` looks for its configuration.
            let names = [dashed.as_str(), &address, "default-arm-bcm283x", "default-arm", "default"];
            let configurations = names.map(|name| format!("pxelinux.cfg/{name}"));
            for path in [format!("{address}.img")].into_iter().chain(configurations) {
                match client.ask(&path, Want::All)? {
                    Answer::Refused { took, .. } if took < AT_ONCE => {}
                    other => bail!("{path} is no file that a card has, but: {other:?}"),
                }
            }
            match client.ask("boot.scr.uimg", Want::All)? {
                Answer::File(script) => Ok(script),
                other => bail!("U-Boot finds no script and stops: {other:?}"),
            }
        })
    }

    /// The first-stage script: DHCP in the model's name, and `start.uboot`.
    ///
    /// # Errors
    /// When DHCP or TFTP does not answer.
    pub fn first_stage(&mut self) -> Result<Second> {
        let class = format!("walt.node.{}", self.kind.model);
        let lease = self.ask_dhcp(false, class.as_bytes())?;
        self.host.inside(|| {
            let mut client = uboot_client(lease.ip);
            let script = client.ask("start.uboot", Want::All)?;
            Ok(Second { script, client })
        })
    }

    /// What the second stage loads from the node's image.
    ///
    /// # Errors
    /// When TFTP does not answer.
    pub fn load(&self, second: &mut Second, path: &str) -> Result<Answer> {
        self.host.inside(|| second.client.ask(path, Want::All))
    }

    /// Asks for an address and takes it.
    fn ask_dhcp(&mut self, firmware: bool, class: &[u8]) -> Result<Lease> {
        let client = self.client(firmware, class);
        let machine = client.options.iter().find(|(code, _)| *code == 97).map(|(_, value)| value.clone());
        let kind = self.kind;
        let accepts = move |offer: &Lease| -> Result<()> {
            ensure!(offer.next_server == SERVER, "siaddr is {}", offer.next_server);
            if firmware { accept(kind, offer, machine.as_deref().unwrap_or_default()) } else { Ok(()) }
        };
        let lease = self.host.inside(|| client.ask(accepts))?;
        self.host.take_address(lease.ip)?;
        Ok(lease)
    }

    fn client(&mut self, firmware: bool, class: &[u8]) -> Client {
        self.boots += 1;
        if !firmware {
            let options = vec![(60, class.to_vec()), (55, vec![1, 3, 6, 12, 17, 66])];
            let xid = 0x5500_0000 | (self.boots << 8) | u32::from(self.hardware[5]);
            let request = Some(options.clone());
            return Client { mac: self.hardware, xid, options, request, tries: (5, Duration::from_secs(2)) };
        }
        // boot-net.adoc, "DHCP Request / Reply": these options in this order.
        let options = vec![
            (55, vec![43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66]),
            (93, vec![0, 0]),
            (94, vec![1, 2, 1]),
            (97, self.machine()),
            (60, class.to_vec()),
        ];
        // rpi-eeprom#82: the request leaves option 60 out.
        let request = self.kind.requests.then(|| options.iter().filter(|(code, _)| *code != 60).cloned().collect());
        // boot-net.adoc: the boot ROM sends this transaction id on every boot (so do firmware#754, #862, #1362), and
        // "five tries" of 5 s. eeprom-bootloader.adoc, "DHCP_REQ_TIMEOUT": 4 s, in all "DHCP_TIMEOUT", 45 s.
        let rom = self.kind.rom.is_some();
        let xid = if rom { 0x26f3_0339 } else { 0x4100_0000 | (self.boots << 8) | u32::from(self.hardware[5]) };
        let tries = if rom { (5, Duration::from_secs(5)) } else { (11, Duration::from_secs(4)) };
        Client { mac: self.hardware, xid, options, request, tries }
    }

    /// Option 97.
    fn machine(&self) -> Vec<u8> {
        let serial = self.serial.to_le_bytes();
        let id = match self.kind.machine {
            Machine::Constant => [b'D'; 16].to_vec(),
            Machine::Serial => serial.repeat(4),
            Machine::Structured(word, revision) => [
                word,
                revision.to_le_bytes(),
                [self.hardware[2], self.hardware[3], self.hardware[4], self.hardware[5]],
                serial,
            ]
            .concat(),
        };
        [vec![0], id].concat()
    }
}

/// What a firmware takes an offer for: boot-net.adoc, "The important part of the reply is the Vendor-Option Option 43".
fn accept(kind: &Kind, offer: &Lease, machine: &[u8]) -> Result<()> {
    const TEXT: &[u8] = b"Raspberry Pi Boot";
    ensure!(offer.option(60) == Some(b"PXEClient"), "option 60 is {:?}", offer.option(60));
    ensure!(offer.option(97) == Some(machine), "option 97 is not the board's own: {:?}", offer.option(97));
    ensure!(offer.option(66) == Some(SERVER.to_string().as_bytes()), "option 66 is {:?}", offer.option(66));
    let menu = offer.option(43).context("no option 43")?;
    if kind.rom.is_some() {
        // The boot ROM looks for the text wherever it is.
        ensure!(menu.windows(TEXT.len()).any(|window| window == TEXT), "option 43 is {menu:?}");
        return Ok(());
    }
    // rpi-eeprom#687 (log): the EEPROM goes through the options of PXE 2.1 to PXE_BOOT_MENU (9), whose entry has a type,
    // a length and its text.
    let mut rest = menu;
    while let [code, length, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        let (value, tail) = tail.split_at_checked(usize::from(*length)).context("option 43 is cut short")?;
        if *code == 9 && value.get(2).map(|length| usize::from(*length)) == Some(value.len() - 3) {
            ensure!(&value[3..] == TEXT, "the menu's text is {:?}", String::from_utf8_lossy(&value[3..]));
            return Ok(());
        }
        rest = tail;
    }
    bail!("no menu in option 43: {menu:?}")
}

/// CONFIG_TFTP_BLOCKSIZE of Debian's U-Boot, and CONFIG_TFTP_TSIZE.
fn uboot_client(local: Ipv4Addr) -> Tftp {
    Tftp { local, server: SERVER, port: 2000, tsize: true, blksize: Some(1468), pace: Duration::ZERO }
}

/// The firmware at work.
struct Firmware {
    local: Ipv4Addr,
    directory: String,
    /// What is put before each name: nothing, or the directory.
    prefix: String,
    dtb: &'static str,
    pace: Duration,
    loaded: Loaded,
}

impl Firmware {
    fn run(&mut self, stage: &Stage, filter: &str) -> Result<()> {
        let Stage { port, tsize, blksize, steps } = *stage;
        let mut client = Tftp { local: self.local, server: SERVER, port, tsize, blksize, pace: Duration::ZERO };
        for step in steps {
            let name = match step.name {
                "{kernel}" => self.kernel(filter)?,
                "{dtb}" => self.dtb.to_owned(),
                name => name.to_owned(),
            };
            let (in_directory, name) = match name.strip_prefix("{board}/") {
                Some(name) => (true, name.to_owned()),
                None => (false, name),
            };
            let path = format!("{}{name}", if in_directory { &self.directory } else { &self.prefix });
            client.pace = if step.want == Want::All && is_large(&name) { self.pace } else { Duration::ZERO };
            match client.ask(&path, step.want)? {
                Answer::Refused { took, .. } => {
                    ensure!(!step.needed, "the board stops: it was refused {path}");
                    self.loaded.slowest_refusal = self.loaded.slowest_refusal.max(took);
                    ensure!(took < AT_ONCE, "{path} was refused only after {took:?}");
                    self.loaded.refused.push(path);
                }
                answer => {
                    // boot-net.adoc: "If this does not result in a error then any other files to be read will be
                    // pre-pended with the serial_number".
                    if in_directory {
                        self.prefix.clone_from(&self.directory);
                    }
                    if let Answer::File(content) = answer {
                        self.loaded.files.insert(name, content);
                    }
                }
            }
        }
        Ok(())
    }

    /// `kernel=` of `config.txt`, as conditional filters have it (config_txt/conditional.adoc).
    fn kernel(&self, filter: &str) -> Result<String> {
        let text = self.loaded.files.get("config.txt").context("no config.txt: this firmware starts kernel*.img")?;
        let text = std::str::from_utf8(text).context("config.txt is no text")?;
        let mut applies = true;
        let mut kernel = None;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                applies = section == "all" || section == filter;
            } else if let (true, Some(name)) = (applies, line.strip_prefix("kernel=")) {
                kernel = Some(name.to_owned());
            }
        }
        kernel.context("config.txt names no kernel for this board")
    }
}

/// Whether a transfer is drawn out when one is to be.
fn is_large(name: &str) -> bool {
    name.starts_with("start") || name.starts_with("u-boot")
}
