//! Moves the bytes of one session: its socket, its timer, its read-ahead.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use wire::tftp::{ErrorCode, Packet, data_header};

use super::session::{Action, Outcome, Session};
use super::{Counters, ReadRequest, count, error_packet};
use crate::bootfile::{BootFile, BootFiles, Unavailable, place_of_tftp};
use crate::{Event, Events};

/// Bytes read at a time, or one window if that is more.
const READ_AHEAD: u64 = 256 << 10;
/// A request that comes again earlier than this was sent before our answer could be there.
const REPEAT_PAUSE: Duration = Duration::from_millis(500);

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Transfers {
    pub(super) files: BootFiles,
    pub(super) events: Events,
    /// Address that clients know us by: answers from another would be dropped.
    pub(super) local: Ipv4Addr,
    pub(super) counters: Arc<Counters>,
}

/// The end of a session, for the listener.
pub(super) struct Ended {
    pub(super) peer: SocketAddrV4,
    pub(super) generation: u64,
    /// The same request came again and wants a session of its own.
    pub(super) again: bool,
}

impl Transfers {
    pub(super) async fn serve(
        self: Arc<Self>,
        peer: SocketAddrV4,
        request: ReadRequest,
        mut inbox: mpsc::Receiver<()>,
        generation: u64,
    ) -> Ended {
        let begin = Instant::now();
        let boards = self.files.boards();
        // The firmware of a board loads what is no part of the node's image.
        let service = if boards.loads_firmware(*peer.ip()) { "firmware" } else { "tftp" };
        let under_way = boards.transfer(*peer.ip(), begin);
        let (end, bytes, asked_again) = self.transfer(peer, &request, &mut inbox).await;
        let error = match &end {
            End::Session(outcome) => outcome.reason().map(str::to_owned),
            End::Unavailable(why) => Some(why.to_string()),
            End::Read(error) => Some(format!("read error: {error}")),
            End::Socket(error) => Some(format!("socket error: {error}")),
        };
        count(if error.is_none() { &self.counters.complete } else { &self.counters.incomplete });
        let path = String::from_utf8_lossy(&request.path).into_owned();
        tracing::debug!(%peer, path, bytes, error, "TFTP transfer over");
        let (client, duration) = (*peer.ip(), begin.elapsed());
        // A question about a size is no file that was served: another request follows at once.
        if !matches!(end, End::Session(Outcome::SizeOnly)) {
            self.events.send(Event::FileServed { client, service, path, bytes, duration, error });
        }
        drop(under_way);
        let superseded = matches!(end, End::Session(Outcome::Superseded));
        inbox.close();
        Ended { peer, generation, again: superseded || asked_again || inbox.try_recv().is_ok() }
    }

    /// Runs the session; returns how it ended, how many bytes have arrived, and whether the client wants another.
    async fn transfer(
        &self,
        peer: SocketAddrV4,
        request: &ReadRequest,
        inbox: &mut mpsc::Receiver<()>,
    ) -> (End, u64, bool) {
        let socket = match self.socket(peer).await {
            Ok(socket) => socket,
            Err(error) => return (End::Socket(error), 0, false),
        };
        let file = match self.files.open(*peer.ip(), &place_of_tftp(&request.path)) {
            Ok(file) => file,
            Err(unavailable) => {
                count(&self.counters.unavailable);
                let packet = error_packet(error_code(&unavailable), &unavailable.to_string());
                let sent = socket.send(&packet).await;
                return (sent.map_or_else(End::Socket, |_| End::Unavailable(unavailable)), 0, false);
            }
        };
        let (session, action) = Session::start(&request.options, file.size(), Instant::now());
        let mut run = Run { socket, file, session, ahead: ReadAhead::default(), heard: false, shared: self };
        let end = match run.until_finished(action, inbox).await {
            Ok(outcome) => End::Session(outcome),
            Err(end) => end,
        };
        if let End::Read(error) = &end {
            tracing::error!(%peer, %error, "cannot read a boot file");
            // The transfer is lost, whether the client hears of it or not.
            let _ = run.socket.send(&error_packet(ErrorCode::Undefined, "read error on the server")).await;
        }
        let wants_another = matches!(&end, End::Session(outcome) if run.session.wants_another(*outcome));
        (end, run.session.acknowledged(run.file.size()), wants_another)
    }

    /// RFC 1350 §4: a port of its own for each transfer. Connected, so that the kernel keeps other hosts out.
    async fn socket(&self, peer: SocketAddrV4) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((self.local, 0)).await?;
        socket.connect(peer).await?;
        Ok(socket)
    }
}

/// How a session ended.
enum End {
    Session(Outcome),
    Unavailable(Unavailable),
    Read(io::Error),
    Socket(io::Error),
}

fn error_code(unavailable: &Unavailable) -> ErrorCode {
    match unavailable {
        Unavailable::NotFound | Unavailable::NoFirmware(_) => ErrorCode::NotFound,
        Unavailable::NoNode(_) | Unavailable::Refused(_) => ErrorCode::AccessViolation,
        Unavailable::NotReady => ErrorCode::Undefined,
    }
}

/// One transfer under way.
struct Run<'a> {
    socket: UdpSocket,
    file: BootFile,
    session: Session,
    ahead: ReadAhead,
    /// The packet to be answered is an acknowledgement: the client got what was sent to it.
    heard: bool,
    shared: &'a Transfers,
}

impl Run<'_> {
    async fn until_finished(&mut self, mut action: Action, inbox: &mut mpsc::Receiver<()>) -> Result<Outcome, End> {
        let timer = tokio::time::sleep_until(self.session.deadline().into());
        tokio::pin!(timer);
        // An ACK has 4 bytes; of an ERROR's text, this much is plenty.
        let mut buffer = [0; 516];
        loop {
            match action {
                Action::Wait => {}
                Action::SendOptions => {
                    let packet = Packet::OptionAck(self.session.agreed()).to_vec();
                    self.send(&packet).await?;
                }
                Action::SendBlocks { first, count } => self.send_blocks(first, count).await?,
                Action::Finish(outcome) => return Ok(outcome),
            }
            // The timer is moved only if it would ring late: most packets push the deadline back, and
            // a timer that rings early finds nothing due.
            if self.session.deadline() < timer.deadline().into_std() {
                timer.as_mut().reset(self.session.deadline().into());
            }
            self.heard = false;
            action = tokio::select! {
                biased;
                received = self.socket.recv(&mut buffer) => match received {
                    Ok(len) => self.on_packet(&buffer[..len]),
                    // ICMP port unreachable: the client has closed its socket.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.session.on_error(),
                    Err(error) if super::is_transient(&error) => Action::Wait,
                    Err(error) => return Err(End::Socket(error)),
                },
                () = timer.as_mut() => {
                    let action = self.session.on_deadline(Instant::now());
                    timer.as_mut().reset(self.session.deadline().into());
                    action
                }
                repeat = inbox.recv() => match repeat {
                    // The client is still at the beginning: our answer is on its way, or lost.
                    Some(()) if self.session.is_opening() => self.session.on_repeat(Instant::now(), REPEAT_PAUSE),
                    _ => Action::Finish(Outcome::Superseded),
                },
            };
        }
    }

    fn on_packet(&mut self, bytes: &[u8]) -> Action {
        match Packet::parse(bytes) {
            Ok(Packet::Ack { block }) => {
                self.heard = true;
                self.session.on_ack(block, Instant::now())
            }
            Ok(Packet::Error { .. }) => self.session.on_error(),
            _ => {
                count(&self.shared.counters.malformed);
                Action::Wait
            }
        }
    }

    async fn send_blocks(&mut self, first: u64, blocks: u16) -> Result<(), End> {
        let (blksize, size) = (self.session.blksize(), self.file.size());
        let start = (first - 1) * blksize;
        let end = (start + u64::from(blocks) * blksize).min(size);
        if !self.ahead.covers(start, end) {
            let len = (end - start).max(READ_AHEAD).min(size - start);
            let data = self.file.read(start, usize::try_from(len).unwrap_or(usize::MAX)).await.map_err(End::Read)?;
            self.ahead = ReadAhead { start, data };
        }
        // RFC 1350 has no rule for the 65536th block; all that boots today counts on from 0.
        let headers: Vec<_> = (first..first + u64::from(blocks)).map(|block| data_header(block as u16)).collect();
        let mut datagrams: Vec<_> = headers
            .iter()
            .zip(0..)
            .map(|(header, number)| {
                let start = start + number * blksize;
                [IoSlice::new(header), IoSlice::new(self.ahead.slice(start, (start + blksize).min(size)))]
            })
            .collect();
        self.send_datagrams(&mut datagrams).await?;
        self.shared.counters.bytes.fetch_add(end - start, Ordering::Relaxed);
        self.session.on_sent(Instant::now());
        Ok(())
    }

    async fn send_datagrams(&self, mut datagrams: &mut [[IoSlice<'_>; 2]]) -> Result<(), End> {
        while !datagrams.is_empty() {
            // The boot ROM of a Raspberry Pi 3 answers no ARP while it loads a file (boot-net.adoc, "ARP check can fail to
            // respond in the middle of TFTP transaction"): without this the kernel loses it after some seconds.
            let send = || sys::datagrams::send(self.socket.as_fd(), datagrams, self.heard);
            match self.socket.async_io(Interest::WRITABLE, send).await {
                Ok(sent) => datagrams = &mut datagrams[sent..],
                // The first one is lost, as it may be on the network; `recv` sees the refusals that count.
                Err(error) if super::is_transient(&error) => datagrams = &mut datagrams[1..],
                Err(error) => return Err(End::Socket(error)),
            }
        }
        Ok(())
    }

    async fn send(&self, packet: &[u8]) -> Result<(), End> {
        match self.socket.send(packet).await {
            Ok(_) => Ok(()),
            // What an earlier packet met; `recv` sees the refusals that count.
            Err(error) if super::is_transient(&error) => Ok(()),
            Err(error) => Err(End::Socket(error)),
        }
    }
}

/// A run of the file in memory. It only moves forward, as acknowledgements do.
#[derive(Default)]
struct ReadAhead {
    start: u64,
    data: Vec<u8>,
}

impl ReadAhead {
    fn covers(&self, start: u64, end: u64) -> bool {
        start >= self.start && end <= self.start + self.data.len() as u64
    }

    /// Must be covered.
    fn slice(&self, start: u64, end: u64) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        &self.data[at(start)..at(end)]
    }
}
