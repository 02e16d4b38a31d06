//! What the firmware of Raspberry Pi boards does over TFTP, packet by packet.
//!
//! `firmware#N` is github.com/raspberrypi/firmware, issue N; `rpi-eeprom#N` likewise; `boot-net.adoc` and the others are
//! in github.com/raspberrypi/documentation, documentation/asciidoc/computers/raspberry-pi.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use walt_net::{BoardSeen, MacAddr};

use crate::site::{CLIENT, Site, noise};

const PI: MacAddr = MacAddr([0xdc, 0xa6, 0x32, 0, 0, 1]);
const CONFIG: &[u8] = b"arm_64bit=1\n";

/// A site whose client is the firmware of a board that no node is.
fn board_site() -> Site {
    let site = Site::with_firmware(&[("start4.elf", noise(200_000)), ("config.txt", CONFIG.to_vec())]);
    site.exports.boards().see(PI, BoardSeen::Firmware(CLIENT), Instant::now());
    site
}

struct Board {
    socket: UdpSocket,
    site: SocketAddr,
    buffer: Vec<u8>,
}

impl Board {
    fn new(site: &Site) -> Self {
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { socket, site: site.tftp.into(), buffer: vec![0; 2048] }
    }

    fn ask(&self, words: &[&str]) {
        let request: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        self.socket.send_to(&[b"\0\x01", &request[..]].concat(), self.site).unwrap();
    }

    fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let (length, from) = self.socket.recv_from(&mut self.buffer).expect("an answer");
        (self.buffer[..length].to_vec(), from)
    }

    fn is_quiet_for(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let quiet = self.socket.recv_from(&mut [0; 2048]).is_err();
        self.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        quiet
    }
}

/// boot-net.adoc, "TFTP file read": the boot ROM sends no options, and gets blocks of 512 bytes.
#[test]
fn boot_net_adoc_a_request_without_options_is_answered_by_the_first_block() {
    let site = board_site();
    let mut board = Board::new(&site);
    board.ask(&["start4.elf", "octet"]);
    let (block, from) = board.receive();
    assert_eq!((block.len(), &block[..4]), (516, &b"\0\x03\0\x01"[..]));
    board.socket.send_to(b"\0\x04\0\x01", from).unwrap();
    assert_eq!(board.receive().0[..4], *b"\0\x03\0\x02");
}

/// rpi-eeprom#25 and #857, 2711 release notes of 2022-10-03: the block sizes of EEPROMs and U-Boots.
#[test]
fn every_block_size_is_agreed_to_as_it_was_asked_for() {
    let site = board_site();
    for blksize in ["512", "1024", "1408", "1468"] {
        let mut board = Board::new(&site);
        board.ask(&["d9780558/start4.elf", "octet", "tsize", "0", "blksize", blksize]);
        let (answer, from) = board.receive();
        let expected = format!("\0\x06blksize\0{blksize}\0tsize\x00200000\0");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        board.socket.send_to(b"\0\x04\0\0", from).unwrap();
        assert_eq!(board.receive().0.len(), 4 + blksize.parse::<usize>().unwrap());
    }
}

/// rpi-eeprom#74, firmware#1700: the size, or the first block, and "Early terminate" where a file is only looked for.
#[test]
fn firmware_1700_a_file_that_is_only_looked_for_costs_one_answer() {
    let mut site = board_site();
    for after_a_block in [false, true] {
        let mut board = Board::new(&site);
        board.ask(&["start4.elf", "octet", "tsize", "0"]);
        let (answer, from) = board.receive();
        assert_eq!(answer, b"\0\x06tsize\x00200000\0");
        if after_a_block {
            board.socket.send_to(b"\0\x04\0\0", from).unwrap();
            assert_eq!(board.receive().0[..4], *b"\0\x03\0\x01");
        }
        board.socket.send_to(b"\0\x05\0\0Early terminate\0", from).unwrap();
        assert!(board.is_quiet_for(Duration::from_millis(1300)), "an ERROR ends it: nothing is sent again");
    }
    // RFC 2349: the first one was a question; the second is told, as one of a board's firmware.
    let served = site.served();
    assert_eq!((served.service, served.path.as_str()), ("firmware", "start4.elf"));
    assert_eq!(served.error.as_deref(), Some("aborted by the client"));
}

/// boot-net.adoc: "This will normally result in an error file not found", and for dozens of other names, too.
#[test]
fn boot_net_adoc_what_is_not_there_is_refused_at_once() {
    let mut site = board_site();
    let mut board = Board::new(&site);
    let begun = Instant::now();
    // Of one port, as firmware has it whose ports begin anew with each of its programs.
    for path in ["bootsig.bin", "d9780558/recovery.elf", "pieeprom.sig", "overlays/overlay_map.dtb", "start.elf"] {
        board.ask(&[path, "octet", "tsize", "0"]);
        let (answer, _) = board.receive();
        assert_eq!(String::from_utf8_lossy(&answer), "\0\x05\0\x01not found\0", "{path}");
        assert_eq!(site.served().service, "firmware");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    board.ask(&["config.txt", "octet"]);
    assert_eq!(board.receive().0, [b"\0\x03\0\x01", CONFIG].concat(), "and the same port gets what is there");
}

/// firmware#1041 (capture): an acknowledgement, or a request, that comes twice. Of firmware#1631: DATA that comes twice
/// hangs a Raspberry Pi 4.
#[test]
fn firmware_1631_what_comes_twice_is_answered_once() {
    let site = board_site();
    let mut board = Board::new(&site);
    board.ask(&["start4.elf", "octet", "tsize", "0", "blksize", "1024"]);
    board.ask(&["start4.elf", "octet", "tsize", "0", "blksize", "1024"]);
    let (_, from) = board.receive();
    assert!(board.is_quiet_for(Duration::from_millis(400)));
    for ack in [b"\0\x04\0\0", b"\0\x04\0\x01"] {
        board.socket.send_to(ack, from).unwrap();
        board.socket.send_to(ack, from).unwrap();
        assert_eq!(board.receive().0[..2], *b"\0\x03");
        assert!(board.is_quiet_for(Duration::from_millis(400)), "{ack:?}");
    }
}

/// boot-net.adoc: the ROM hangs on what it does not get; nothing may be sent to it that it has not asked for either.
#[test]
fn a_board_that_cannot_write_is_told_so() {
    let site = board_site();
    let mut board = Board::new(&site);
    board.socket.send_to(b"\0\x02config.txt\0octet\0", site.tftp).unwrap();
    assert_eq!(board.receive().0[..4], *b"\0\x05\0\x02");
    assert_eq!(site.tftp_counters.refused.load(Ordering::Relaxed), 1);
    let firmware = site.directory.path().join("rpi-firmware/config.txt");
    assert_eq!(fs::read(firmware).unwrap(), CONFIG);
}
