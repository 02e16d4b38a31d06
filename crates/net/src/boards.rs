//! Raspberry Pi boards that boot by themselves: which address is in the hands of a board's own firmware.
//!
//! Such firmware asks TFTP for names of its own and says nothing of a model: all that tells who asks is the address that
//! DHCP gave it a moment ago. So DHCP writes this table, and the rule of boot files reads it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::MacAddr;

/// Address blocks of Raspberry Pi (IEEE registry, "Raspberry Pi Foundation", "Raspberry Pi (Trading) Ltd"): its boards,
/// and nothing else that runs PXE.
const RASPBERRY_PI_OUIS: [[u8; 3]; 7] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0xd8, 0x3a, 0xdd],
    [0x28, 0xcd, 0xc1],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
];

/// A board of which nothing was heard for so long is not on its way to its start script any more. U-Boot needs some 3 s
/// from its start to its DHCP, a Pi 3 (Ethernet behind USB) twice that.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What runs on a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardStage {
    /// Its firmware, or a U-Boot that was loaded from us and has not said `walt.node.<model>` yet.
    Firmware,
    /// The first-stage script: it has said which model it runs on.
    Bootloader,
}

/// Where a DHCP message shows a board to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoardSeen {
    /// Its firmware was given this address.
    Firmware(Ipv4Addr),
    /// It says `walt.node.<model>`.
    Bootloader,
    /// An operating system runs on it.
    System,
}

/// The table.
#[derive(Debug, Default)]
pub struct Boards {
    tables: Mutex<Tables>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    by_ip: HashMap<Ipv4Addr, Board>,
    ip_by_mac: HashMap<MacAddr, Ipv4Addr>,
}

#[derive(Debug)]
struct Board {
    mac: MacAddr,
    stage: BoardStage,
    /// When it was last heard of in this boot; `None` for one that is known by its lease alone.
    heard: Option<Instant>,
    /// It has its start script, or cannot boot at all.
    settled: bool,
    /// Transfers under way.
    transfers: usize,
}

/// One transfer to a board; it ends when this is dropped.
#[derive(Debug)]
pub struct BoardTransfer<'a> {
    boards: &'a Boards,
    ip: Ipv4Addr,
}

/// Whether Raspberry Pi made the board with this address.
pub fn is_raspberry_pi(mac: MacAddr) -> bool {
    let [a, b, c, ..] = mac.0;
    RASPBERRY_PI_OUIS.contains(&[a, b, c])
}

impl Boards {
    /// Remembers, after a start of the server, the leases of boards: one may be between its offer and its files.
    pub fn remember(&self, leases: impl IntoIterator<Item = (MacAddr, Ipv4Addr)>) {
        let mut tables = self.lock();
        for (mac, ip) in leases.into_iter().filter(|(mac, _)| is_raspberry_pi(*mac)) {
            tables.set(mac, ip, None);
        }
    }

    /// Takes what a DHCP message has shown.
    pub fn see(&self, mac: MacAddr, seen: BoardSeen, now: Instant) {
        let mut tables = self.lock();
        match seen {
            BoardSeen::Firmware(ip) => tables.set(mac, ip, Some(now)),
            BoardSeen::Bootloader => {
                if let Some(board) = tables.of(mac) {
                    board.stage = BoardStage::Bootloader;
                    board.heard = Some(now);
                }
            }
            BoardSeen::System => tables.remove(mac),
        }
    }

    /// What runs on the board at this address; `None` if there is none.
    pub fn stage(&self, ip: Ipv4Addr) -> Option<BoardStage> {
        self.lock().by_ip.get(&ip).map(|board| board.stage)
    }

    /// Whether firmware has this address that DHCP has seen beginning: a lease alone may be that of a running system.
    pub fn loads_firmware(&self, ip: Ipv4Addr) -> bool {
        let board = &self.lock().by_ip;
        board.get(&ip).is_some_and(|board| board.stage == BoardStage::Firmware && board.heard.is_some())
    }

    /// A transfer to this address begins.
    pub fn transfer(&self, ip: Ipv4Addr, now: Instant) -> BoardTransfer<'_> {
        if let Some(board) = self.lock().by_ip.get_mut(&ip) {
            board.transfers += 1;
            board.heard = board.heard.map(|_| now);
        }
        BoardTransfer { boards: self, ip }
    }

    /// The board has been given its start script, or cannot boot at all: nobody need wait for it.
    pub fn settled(&self, ip: Ipv4Addr) {
        if let Some(board) = self.lock().by_ip.get_mut(&ip) {
            board.settled = true;
        }
    }

    /// How many boards are between their firmware's first question and their start script.
    pub fn on_their_way(&self, now: Instant) -> usize {
        let recent = |board: &Board| board.heard.is_some_and(|at| now.duration_since(at) < ON_ITS_WAY);
        let boards = &self.lock().by_ip;
        boards.values().filter(|board| board.transfers > 0 || (recent(board) && !board.settled)).count()
    }

    /// The server is about to stop: from now on nobody's firmware is answered, so that no boot begins that would be cut
    /// off, and start scripts make their boards come again.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic under this lock can only be one in `HashMap`: the tables stay usable.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BoardTransfer<'_> {
    fn drop(&mut self) {
        if let Some(board) = self.boards.lock().by_ip.get_mut(&self.ip) {
            // It may have been forgotten and come again meanwhile.
            board.transfers = board.transfers.saturating_sub(1);
            board.heard = board.heard.map(|_| Instant::now());
        }
    }
}

impl Tables {
    fn of(&mut self, mac: MacAddr) -> Option<&mut Board> {
        self.by_ip.get_mut(self.ip_by_mac.get(&mac)?)
    }

    fn set(&mut self, mac: MacAddr, ip: Ipv4Addr, heard: Option<Instant>) {
        self.remove(mac);
        if let Some(other) =
            self.by_ip.insert(ip, Board { mac, stage: BoardStage::Firmware, heard, settled: false, transfers: 0 })
        {
            self.ip_by_mac.remove(&other.mac);
        }
        self.ip_by_mac.insert(mac, ip);
    }

    fn remove(&mut self, mac: MacAddr) {
        if let Some(ip) = self.ip_by_mac.remove(&mac) {
            self.by_ip.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: MacAddr = MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3]);
    const PC: MacAddr = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    #[test]
    fn a_board_is_known_from_its_offer_to_its_system() {
        let (boards, now) = (Boards::default(), Instant::now());
        boards.see(PI, BoardSeen::Bootloader, now);
        assert_eq!(boards.stage(IP), None, "one that came by a card");
        boards.see(PI, BoardSeen::Firmware(IP), now);
        assert_eq!(boards.stage(IP), Some(BoardStage::Firmware));
        boards.see(PI, BoardSeen::Bootloader, now);
        assert_eq!(boards.stage(IP), Some(BoardStage::Bootloader));
        boards.see(PI, BoardSeen::Firmware(IP), now);
        assert_eq!(boards.stage(IP), Some(BoardStage::Firmware), "reset");
        boards.see(PI, BoardSeen::System, now);
        assert_eq!(boards.stage(IP), None);
    }

    #[test]
    fn an_address_is_one_boards_and_a_board_has_one() {
        let (boards, now) = (Boards::default(), Instant::now());
        let (other, second) = (MacAddr([0xdc, 0xa6, 0x32, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 6));
        boards.see(PI, BoardSeen::Firmware(IP), now);
        boards.see(PI, BoardSeen::Firmware(second), now);
        assert_eq!((boards.stage(IP), boards.stage(second)), (None, Some(BoardStage::Firmware)));
        boards.see(other, BoardSeen::Firmware(second), now);
        boards.see(PI, BoardSeen::System, now);
        assert_eq!(boards.stage(second), Some(BoardStage::Firmware), "the other's entry");
    }

    #[test]
    fn leases_of_boards_are_remembered_over_a_start() {
        let boards = Boards::default();
        boards.remember([(PC, Ipv4Addr::new(10, 0, 0, 4)), (PI, IP)]);
        assert_eq!(boards.stage(Ipv4Addr::new(10, 0, 0, 4)), None);
        assert_eq!(boards.stage(IP), Some(BoardStage::Firmware));
        drop(boards.transfer(IP, Instant::now()));
        assert_eq!(boards.on_their_way(Instant::now()), 0, "nothing was heard of its firmware");
        assert!(!boards.loads_firmware(IP));
        boards.see(PI, BoardSeen::Firmware(IP), Instant::now());
        assert!(boards.loads_firmware(IP));
    }

    #[test]
    fn a_board_is_on_its_way_until_it_has_its_start_script() {
        let (boards, now) = (Boards::default(), Instant::now());
        boards.see(PI, BoardSeen::Firmware(IP), now);
        assert_eq!(boards.on_their_way(now), 1);
        let transfer = boards.transfer(IP, now);
        let late = now + 3 * ON_ITS_WAY;
        assert_eq!(boards.on_their_way(late), 1, "a long file");
        drop(transfer);
        assert_eq!(boards.on_their_way(now + ON_ITS_WAY / 2), 1, "the next file, or U-Boot's start");
        assert_eq!(boards.on_their_way(late), 0, "switched off");
        boards.see(PI, BoardSeen::Bootloader, late);
        let transfer = boards.transfer(IP, late);
        boards.settled(IP);
        assert_eq!(boards.on_their_way(late), 1, "still being sent");
        drop(transfer);
        assert_eq!(boards.on_their_way(late), 0);
        drop(boards.transfer(Ipv4Addr::new(10, 0, 0, 77), late));
        assert_eq!(boards.on_their_way(late), 0, "a PC is no board");
    }
}
