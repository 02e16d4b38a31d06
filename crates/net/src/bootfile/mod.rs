//! Which file a path means to whom: the one rule that TFTP and HTTP boot share.

mod firmware;
mod loaders;
mod path;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::{FileKind, Ino, ResolveError, Timestamp, View};

pub use firmware::{Firmware, FirmwareError};
pub use loaders::{LoadError, Loaders};
pub use path::{Place, place_of_http, place_of_tftp};

use crate::{BoardStage, Boards, Exports, NodeExport};

/// The second-stage script of U-Boot nodes.
const START_UBOOT: &[u8] = b"start.uboot";
/// What U-Boot runs instead while the server stops. The wait gives the next server time to be there: the boot ROM of a
/// Raspberry Pi 3 asks DHCP five times in 25 s and then for ever no more (boot-net.adoc, "DHCP requests time out after
/// five tries").
const TRY_AGAIN: &str = "\
echo \"WalT: the server is being stopped or restarted; this board tries again in 10 s\"
sleep 10
reset
";

/// Files that machines ask for before they have an operating system.
#[derive(Debug, Clone)]
pub struct BootFiles {
    loaders: Arc<Loaders>,
    exports: Arc<Exports>,
    boards: Arc<ForBoards>,
}

/// What boards get that boot by their own firmware.
#[derive(Debug, Default)]
struct ForBoards {
    directory: PathBuf,
    firmware: Option<Firmware>,
    /// The log says once that there is none.
    told: AtomicBool,
}

/// A file to serve: its bytes cannot change while it is held.
#[derive(Debug, Clone)]
pub struct BootFile {
    content: Content,
    size: u64,
}

#[derive(Debug, Clone)]
enum Content {
    /// The server's own: a network bootloader or a script.
    Memory { bytes: Arc<[u8]>, tag: u64 },
    /// A regular file of a node's image.
    Image { view: Arc<View>, ino: Ino, mtime: Timestamp },
}

/// Why there is nothing to serve. Its text is for the person at the machine's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// The node's image is not there yet: ask again.
    NotReady,
    /// The address is no node's, and the path is not one of the server's own.
    NoNode(Ipv4Addr),
    /// No such file.
    NotFound,
    /// A board asks for its firmware, and there is none: where it would be.
    NoFirmware(PathBuf),
    /// It is there, but is no regular file, or its symlinks lead in a circle.
    Refused(&'static str),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::NoNode(ip) => write!(f, "{ip} is not a node of this server"),
            Self::NotFound => f.write_str("not found"),
            Self::NoFirmware(directory) => write!(
                f,
                "this server has no Raspberry Pi firmware: make {} with walt media sd --out-dir and restart the server",
                directory.display()
            ),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl BootFiles {
    /// The rule over these loaders and nodes.
    pub fn new(loaders: Loaders, exports: Arc<Exports>) -> Self {
        Self { loaders: Arc::new(loaders), exports, boards: Arc::default() }
    }

    /// With what `directory` holds for boards that boot by their own firmware, if it is there.
    #[must_use]
    pub fn with_firmware(mut self, directory: &Path, firmware: Option<Firmware>) -> Self {
        self.boards = Arc::new(ForBoards { directory: directory.to_owned(), firmware, told: AtomicBool::new(false) });
        self
    }

    /// The file that `place` is to the client at `client`.
    ///
    /// Nothing that the client sends names a file outside of `/boot/<model>` of its own node's image,
    /// save through the image's own symlinks, which stay in the image; and, for the firmware of a board, outside of the
    /// firmware directory.
    pub fn open(&self, client: Ipv4Addr, place: &Place) -> Result<BootFile, Unavailable> {
        let path = match place {
            Place::Server(name) => return self.loaders.get(name).ok_or(Unavailable::NotFound),
            Place::Image(path) => path,
        };
        let boards = self.boards();
        let file = if path == START_UBOOT && boards.is_closing() {
            Ok(BootFile::from_bytes(boot::uboot::script_image(TRY_AGAIN)))
        } else if boards.stage(client) == Some(BoardStage::Firmware) {
            self.open_for_firmware(client, path)
        } else {
            self.open_for_node(client, path)
        };
        if path == START_UBOOT && file.is_ok() {
            boards.settled(client);
        }
        file
    }

    /// Boards whose own firmware is at work.
    pub(crate) fn boards(&self) -> &Boards {
        self.exports.boards()
    }

    fn open_for_node(&self, client: Ipv4Addr, path: &[u8]) -> Result<BootFile, Unavailable> {
        let node = self.exports.by_ip(client).ok_or(Unavailable::NoNode(client))?;
        open_in_image(&node, path)
    }

    /// Firmware looks for many files that need not be there, and must have others whatever is known of its board: those
    /// of its own image, if that is ready and has them, and otherwise ours, which lead to U-Boot. The start script
    /// alone never comes from there. A directory of the board's own is taken off the path, unless the image has it.
    fn open_for_firmware(&self, client: Ipv4Addr, asked: &[u8]) -> Result<BootFile, Unavailable> {
        let path = firmware::without_board(asked);
        if path.len() < asked.len()
            && let Ok(own) = self.open_for_node(client, asked)
        {
            return Ok(own);
        }
        let why = match self.open_for_node(client, path) {
            Err(why) if path != START_UBOOT => why,
            own => return own,
        };
        match &self.boards.firmware {
            Some(firmware) => firmware.get(path).ok_or(Unavailable::NotFound),
            // An image that is ready brings the firmware itself, or not.
            None if !matches!(why, Unavailable::NotReady | Unavailable::NoNode(_)) => Err(why),
            None => {
                self.boards().settled(client);
                let none = Unavailable::NoFirmware(self.boards.directory.clone());
                if !self.boards.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%client, "a Raspberry Pi asks for its firmware: {none}");
                }
                Err(none)
            }
        }
    }
}

fn open_in_image(node: &NodeExport, path: &[u8]) -> Result<BootFile, Unavailable> {
    // The model came in a DHCP option: it must not be more than one directory name.
    if node.model.is_empty() || node.model.contains(['/', '\0']) || node.model.starts_with('.') {
        return Err(Unavailable::Refused("the node has no valid model"));
    }
    let view = node.image.as_ref().ok_or(Unavailable::NotReady)?;
    let full = [b"/boot/", node.model.as_bytes(), b"/", path].concat();
    let ino = view.resolve(&full).map_err(|error| match error {
        ResolveError::NotFound | ResolveError::NotADirectory => Unavailable::NotFound,
        ResolveError::TooManySymlinks => Unavailable::Refused("too many symlinks on the way"),
    })?;
    let attr = view.attr(ino).ok_or(Unavailable::NotFound)?;
    match attr.kind {
        FileKind::Regular => {
            Ok(BootFile { size: attr.size, content: Content::Image { view: Arc::clone(view), ino, mtime: attr.mtime } })
        }
        FileKind::Directory => Err(Unavailable::Refused("is a directory")),
        _ => Err(Unavailable::Refused("is not a regular file")),
    }
}

impl BootFile {
    /// A file of the server's own.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { size: bytes.len() as u64, content: Content::Memory { tag: fnv1a(&bytes), bytes } }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A name for exactly these bytes, for HTTP's `ETag` (without the quotes).
    pub fn tag(&self) -> String {
        match &self.content {
            Content::Memory { tag, bytes } => format!("{tag:016x}-{:x}", bytes.len()),
            // An image never changes under its id.
            Content::Image { view, ino, .. } => format!("{}-{ino:x}", view.id()),
        }
    }

    /// Modification time in seconds since 1970, if the file has one.
    pub fn modified(&self) -> Option<i64> {
        match &self.content {
            Content::Memory { .. } => None,
            Content::Image { mtime, .. } => Some(mtime.secs),
        }
    }

    /// Reads `offset..offset + buf.len()`, which must lie within the file. May block.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.content {
            Content::Memory { bytes, .. } => copy_range(bytes, offset, buf),
            Content::Image { view, ino, .. } => whole(view.read_at(*ino, offset, buf)?, buf.len()),
        }
    }

    /// As [`read_exact_at`](Self::read_exact_at), from memory alone; false if that would block.
    pub fn try_read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<bool> {
        match &self.content {
            Content::Memory { bytes, .. } => copy_range(bytes, offset, buf).map(|()| true),
            Content::Image { view, ino, .. } => match view.try_read_at(*ino, offset, buf)? {
                // A short read from the page cache is no end of file.
                Some(read) => Ok(read == buf.len()),
                None => Ok(false),
            },
        }
    }

    /// Fills a new buffer with `len` bytes from `offset` on, without ever blocking the async runtime:
    /// from the page cache on the spot, else in the blocking pool.
    pub async fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        if self.try_read_exact_at(offset, &mut buf)? {
            return Ok(buf);
        }
        let file = self.clone();
        let read = tokio::task::spawn_blocking(move || file.read_exact_at(offset, &mut buf).map(|()| buf));
        read.await.map_err(io::Error::other)?
    }
}

fn copy_range(bytes: &[u8], offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let range = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
    buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

fn whole(read: usize, wanted: usize) -> io::Result<()> {
    if read == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// FNV-1a: names a version of a file of our own, defends against nobody.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{BoardSeen, MacAddr};

    fn files(node: Option<NodeExport>) -> BootFiles {
        let exports = Exports::default();
        node.into_iter().for_each(|node| exports.set(node));
        BootFiles::new(Loaders::from_files([("undionly.kpxe", b"loader".to_vec())]), Arc::new(exports))
    }

    fn node(model: &str) -> NodeExport {
        NodeExport {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: Ipv4Addr::new(10, 0, 0, 5),
            name: "node-000001".into(),
            model: model.into(),
            image: None,
            held: Vec::new(),
        }
    }

    #[test]
    fn anybody_gets_the_servers_own_files_and_nothing_else() {
        let (stranger, files) = (Ipv4Addr::new(10, 0, 0, 9), files(None));
        let loader = files.open(stranger, &Place::Server("undionly.kpxe".into())).unwrap();
        let mut bytes = [0; 6];
        loader.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"loader");
        assert!(files.open(stranger, &Place::Server("walt.ipxe".into())).is_ok());
        assert_eq!(files.open(stranger, &Place::Server("passwd".into())).unwrap_err(), Unavailable::NotFound);
        let image = Place::Image(b"kernel".to_vec());
        assert_eq!(files.open(stranger, &image).unwrap_err(), Unavailable::NoNode(stranger));
    }

    #[test]
    fn a_node_without_an_image_is_told_to_come_back() {
        let node = node("pc-x86-64");
        let found = files(Some(node.clone())).open(node.ip, &Place::Image(b"start.ipxe".to_vec()));
        assert_eq!(found.unwrap_err(), Unavailable::NotReady);
    }

    #[test]
    fn a_model_is_one_directory_name() {
        for model in ["", ".", "..", "../../etc", "a/b", "a\0b"] {
            let node = node(model);
            let found = files(Some(node.clone())).open(node.ip, &Place::Image(b"shadow".to_vec()));
            assert!(matches!(found.unwrap_err(), Unavailable::Refused(_)), "{model:?}");
        }
    }

    /// Server with this node and this firmware (name, content).
    fn with_firmware(node: Option<NodeExport>, firmware: &[(&str, &str)]) -> BootFiles {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in firmware {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let firmware = Firmware::load(directory.path()).unwrap();
        files(node).with_firmware(directory.path(), firmware)
    }

    fn image(path: &str) -> Place {
        Place::Image(path.into())
    }

    #[test]
    fn only_the_firmware_of_a_board_gets_firmware() {
        let (board, mac) = (Ipv4Addr::new(10, 0, 0, 9), MacAddr([0xdc, 0xa6, 0x32, 0, 0, 1]));
        let (now, files) = (Instant::now(), with_firmware(None, &[("config.txt", "c"), ("start.uboot", "never")]));
        let get = |path: &str| files.open(board, &image(path)).map(|file| file.size());
        let none = Err(Unavailable::NoNode(board));
        assert_eq!(get("config.txt"), none, "nobody knows this address");
        files.boards().see(mac, BoardSeen::Firmware(board), now);
        for path in ["config.txt", "d9780558/config.txt", "dc-a6-32-00-00-01/config.txt"] {
            assert_eq!(get(path), Ok(1), "{path}");
        }
        assert_eq!(get("recovery.elf"), Err(Unavailable::NotFound));
        assert_eq!(get("start.uboot"), none, "the image's alone");
        assert!(files.open(board, &Place::Server("walt.ipxe".into())).is_ok());
        assert_eq!(
            files.open(Ipv4Addr::new(10, 0, 0, 8), &image("config.txt")).map(|_| ()).unwrap_err().to_string(),
            "10.0.0.8 is not a node of this server"
        );
        files.boards().see(mac, BoardSeen::Bootloader, now);
        assert_eq!(get("config.txt"), none);
    }

    #[test]
    fn a_board_whose_image_is_not_there_gets_what_makes_it_come_again() {
        let node = node("rpi-4-b");
        let files = with_firmware(Some(node.clone()), &[("start4.elf", "fw")]);
        let get = |path: &str| files.open(node.ip, &image(path)).map(|file| file.size());
        files.boards().see(node.mac, BoardSeen::Firmware(node.ip), Instant::now());
        assert_eq!(get("d9780558/start4.elf"), Ok(2));
        assert_eq!(get("d9780558/start.elf"), Err(Unavailable::NotFound), "no model has to have all of them");
        assert_eq!(get("start.uboot"), Err(Unavailable::NotReady));
        files.boards().see(node.mac, BoardSeen::Bootloader, Instant::now());
        assert_eq!(get("start.uboot"), Err(Unavailable::NotReady));
        assert_eq!(get("start4.elf"), Err(Unavailable::NotReady));
    }

    #[test]
    fn without_a_firmware_directory_the_reason_is_told() {
        let files = files(None).with_firmware(Path::new("/var/lib/walt/rpi-firmware"), None);
        let board = Ipv4Addr::new(10, 0, 0, 9);
        files.boards().see(MacAddr([0xb8, 0x27, 0xeb, 0, 0, 1]), BoardSeen::Firmware(board), Instant::now());
        let why = files.open(board, &image("bootcode.bin")).unwrap_err().to_string();
        assert!(why.contains("/var/lib/walt/rpi-firmware") && why.contains("walt media sd"), "{why}");
    }

    #[test]
    fn while_the_server_stops_start_scripts_make_boards_come_again() {
        let node = node("rpi-4-b");
        let files = files(Some(node.clone()));
        files.boards().close();
        let script = files.open(node.ip, &image("start.uboot")).unwrap();
        let mut bytes = vec![0; script.size() as usize];
        script.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes[..4], [0x27, 0x05, 0x19, 0x56]);
        let text = String::from_utf8_lossy(&bytes[72..]).into_owned();
        assert!(text.starts_with("echo ") && text.ends_with("\nreset\n"), "{text}");
        assert_eq!(files.open(node.ip, &image("kernel")).unwrap_err(), Unavailable::NotReady);
    }

    #[test]
    fn reads_stay_within_the_file() {
        let file = BootFile::from_bytes(b"0123456789".as_slice());
        let mut buf = [0; 4];
        file.read_exact_at(6, &mut buf).unwrap();
        assert_eq!(&buf, b"6789");
        for offset in [7, 10, 11, u64::MAX] {
            assert!(file.read_exact_at(offset, &mut buf).is_err());
        }
        assert!(file.read_exact_at(10, &mut []).is_ok());
    }
}
