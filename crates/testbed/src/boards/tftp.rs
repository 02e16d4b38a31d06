//! TFTP as the firmware of a board and its U-Boot speak it, written without our own codec.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Firmware that hears nothing gives up, some of it for ever: for us that is an error at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// One client. It never asks twice.
#[derive(Debug)]
pub(super) struct Tftp {
    pub(super) local: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    /// Source port of the next request; each one has the next port, and each stage begins with the same.
    pub(super) port: u16,
    /// Whether it asks for the size.
    pub(super) tsize: bool,
    /// Block size that it asks for.
    pub(super) blksize: Option<u16>,
    /// Wait before each acknowledgement, for a transfer that is to take a while.
    pub(super) pace: Duration,
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The whole file.
    File(Vec<u8>),
    /// It is there; the client has ended the transfer.
    There,
    /// An ERROR.
    Refused {
        /// RFC 1350, appendix.
        code: u16,
        /// Its text.
        text: String,
        /// How long it took to come.
        took: Duration,
    },
}

/// How much of a file a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// All of it.
    All,
    /// To know whether it is there: ERROR after the option acknowledgement.
    Size,
    /// The same: ERROR after the first block.
    Block,
}

impl Tftp {
    pub(super) fn ask(&mut self, path: &str, want: Want) -> Result<Answer> {
        self.transfer(path, want).with_context(|| format!("TFTP {path}"))
    }

    fn transfer(&mut self, path: &str, want: Want) -> Result<Answer> {
        let socket = UdpSocket::bind((self.local, self.port)).context("cannot open a socket")?;
        self.port += 1;
        socket.set_read_timeout(Some(PATIENCE))?;
        let begun = Instant::now();
        socket.send_to(&self.request(path), (self.server, 69)).context("cannot send")?;
        let mut buffer = vec![0; 2048];
        let mut peer: Option<SocketAddr> = None;
        let mut file = Vec::new();
        let mut last = 0u16;
        let blksize = usize::from(self.blksize.unwrap_or(512));
        loop {
            let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
            // RFC 1350 §4: each transfer has one port of the server.
            ensure!(*peer.get_or_insert(from) == from, "two answers, from {peer:?} and {from}");
            match &buffer[..length] {
                [0, 5, high, low, text @ ..] => {
                    let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                    return Ok(Answer::Refused {
                        code: u16::from_be_bytes([*high, *low]),
                        text,
                        took: begun.elapsed(),
                    });
                }
                [0, 6, options @ ..] => {
                    ensure!(last == 0 && file.is_empty(), "options in the middle of a transfer");
                    self.check_options(options)?;
                    if want == Want::Size {
                        return early_terminate(&socket, from);
                    }
                    socket.send_to(&[0, 4, 0, 0], from)?;
                }
                [0, 3, high, low, data @ ..] => {
                    let block = u16::from_be_bytes([*high, *low]);
                    // github.com/raspberrypi/firmware issue 1631: a block that comes twice hangs a Raspberry Pi 4.
                    ensure!(block == last.wrapping_add(1), "block {block} after {last}: the board would hang");
                    if want == Want::Block {
                        return early_terminate(&socket, from);
                    }
                    last = block;
                    file.extend_from_slice(data);
                    let is_last = data.len() < blksize;
                    sleep(self.pace);
                    socket.send_to(&[0, 4, *high, *low], from)?;
                    if is_last {
                        return Ok(Answer::File(file));
                    }
                }
                other => bail!("no TFTP answer: {other:?}"),
            }
        }
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let mut request = vec![0, 1];
        let mut words = vec![path.to_owned(), "octet".to_owned()];
        if self.tsize {
            words.extend(["tsize".to_owned(), "0".to_owned()]);
        }
        if let Some(blksize) = self.blksize {
            words.extend(["blksize".to_owned(), blksize.to_string()]);
        }
        for word in words {
            request.extend(word.as_bytes());
            request.push(0);
        }
        request
    }

    /// RFC 2347: an OACK holds what was asked for and nothing else.
    fn check_options(&self, options: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(options).to_lowercase();
        let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
        let value = |name: &str| words.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1).copied());
        let asked = usize::from(self.tsize) + usize::from(self.blksize.is_some());
        ensure!(words.len() == 2 * asked, "asked for {asked} options, answered {words:?}");
        ensure!(!self.tsize || value("tsize").is_some_and(|size| size.parse::<u64>().is_ok()), "no size: {words:?}");
        let wanted = self.blksize.map(|size| size.to_string());
        ensure!(value("blksize") == wanted.as_deref(), "another block size: {words:?}");
        Ok(())
    }
}

fn early_terminate(socket: &UdpSocket, server: SocketAddr) -> Result<Answer> {
    socket.send_to(b"\0\x05\0\0Early terminate\0", server)?;
    Ok(Answer::There)
}
