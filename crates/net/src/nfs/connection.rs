//! One TCP connection: takes in records, answers them, sends the answers.
//!
//! A single task does all of it. What the peer does not read back is not answered further: its
//! requests stay in the socket, so neither side of a connection can make the server hold more than
//! one input buffer, one output buffer, and the reads it has under way.

use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use wire::record;
use wire::rpc::{AcceptStat, encode_accepted};
use wire::xdr::{Writer, padding};

use super::clients::Admission;
use super::content::{Content, send_more};
use super::dispatch::{Answer, Caller, PendingRead, Transport};
use super::filesystem::Exporter;
use super::host::{PendingCall, WRITE_SIZE};
use super::server::Shared;

/// Largest record taken in: the largest WRITE that we announce, and room for its headers.
const RECORD: usize = WRITE_SIZE as usize + 2048;
/// First size of the input buffer; it grows up to [`INPUT`] under load.
const INPUT_START: usize = 4 << 10;
/// Largest input buffer for small requests, some hundred at once. It is larger only while a record is.
const INPUT: usize = 64 << 10;
/// Replies are sent when there are this many bytes of them, even if more requests wait.
const FLUSH: usize = 256 << 10;
/// READs from disk, and calls into a directory of the host, that one connection may have under way.
const WAITING: usize = 16;
/// Bytes of such calls that one address may have under way; beyond that, each of its connections has one of them.
const HELD: usize = 1 << 20;

/// A connection with its buffers.
pub(super) struct Connection<E: Exporter> {
    stream: TcpStream,
    caller: Caller,
    shared: Arc<Shared<E>>,
    admission: Admission,
    input: Input,
    output: Writer,
    /// Data that ends the last reply in `output`.
    data: Option<Content<E::Fs>>,
    /// READs from disk whose replies have not come back.
    waiting: usize,
    /// Bytes of the calls among them.
    held: usize,
    finished: mpsc::Receiver<Finished>,
    finish: mpsc::Sender<Finished>,
}

/// A reply that came back from the disk. The permit is the client's, until the reply is sent.
struct Finished {
    reply: Writer,
    /// Bytes that the call held.
    held: usize,
    _permit: OwnedSemaphorePermit,
}

/// Why a connection ends; only its peer is concerned.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("closed by the peer")]
    Closed,
    #[error("idle")]
    Idle,
    #[error("replies not taken")]
    Stalled,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Record(#[from] record::RecordTooLong),
}

impl<E: Exporter> Connection<E> {
    pub(super) fn new(stream: TcpStream, peer: SocketAddrV4, admission: Admission, shared: Arc<Shared<E>>) -> Self {
        shared.counters.connections.fetch_add(1, Relaxed);
        let (finish, finished) = mpsc::channel(WAITING);
        Self {
            stream,
            caller: Caller::new(peer, Transport::Tcp),
            shared,
            admission,
            input: Input::new(),
            output: Writer::new(),
            data: None,
            waiting: 0,
            held: 0,
            finished,
            finish,
        }
    }

    pub(super) async fn run(mut self) {
        let ended = self.serve().await;
        if let Err(Ended::Record(error)) = &ended {
            self.shared.counters.malformed.fetch_add(1, Relaxed);
            tracing::debug!(peer = %self.caller.ip, %error, "NFS connection closed");
        }
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let mut idle = std::pin::pin!(sleep(self.shared.limits.idle));
        let mut active = true;
        loop {
            while self.answer_buffered()? {
                self.send().await?;
            }
            let room = if self.may_take_more() { self.input.room() } else { &mut [] };
            // A whole record may be there that could not be taken a moment ago: it fills all of it.
            let may_read = !room.is_empty();
            tokio::select! {
                read = self.stream.read(room), if may_read => match read? {
                    0 => return Err(Ended::Closed),
                    length => self.input.filled(length),
                },
                Some(done) = self.finished.recv(), if self.waiting > 0 => {
                    self.waiting -= 1;
                    self.held -= done.held;
                    self.send_finished(done).await?;
                }
                () = &mut idle => {
                    if !active && self.waiting == 0 {
                        return Err(Ended::Idle);
                    }
                    active = false;
                    rearm(idle.as_mut(), self.shared.limits.idle);
                    continue;
                }
            }
            active = true;
        }
    }

    /// Answers the records that are here whole, up to [`FLUSH`] bytes of replies; whether there are any.
    fn answer_buffered(&mut self) -> Result<bool, Ended> {
        while self.may_take_more() && self.output.len() < FLUSH && self.data.is_none() {
            let Some(found) = record::next_record(self.input.bytes(), RECORD)? else { break };
            let start = self.output.len();
            if start == 0 && self.output.capacity() == 0 {
                self.output = self.shared.buffers.take();
            }
            self.output.u32(0);
            match self.shared.dispatcher.answer(self.caller, &found.message, &mut self.output) {
                Answer::Reply => {
                    let length = self.output.len() - start - 4;
                    self.output.set_u32(start, record::header(length));
                }
                Answer::Data(content) => {
                    let data = content.len() as usize;
                    let length = self.output.len() - start - 4 + data + padding(data);
                    self.output.set_u32(start, record::header(length));
                    self.data = Some(content);
                }
                Answer::Silence => self.output.truncate(start),
                Answer::Wait(read) => {
                    self.output.truncate(start);
                    self.waiting += 1;
                    tokio::spawn(finish(
                        Arc::clone(&self.shared),
                        Arc::clone(&self.admission.reads),
                        read,
                        self.finish.clone(),
                    ));
                }
                Answer::Work(call) => {
                    self.output.truncate(start);
                    self.waiting += 1;
                    self.held += call.size();
                    let held = Held::new(Arc::clone(&self.admission.held), call.size());
                    tokio::spawn(work(
                        Arc::clone(&self.shared),
                        Arc::clone(&self.admission.calls),
                        (call, held),
                        self.finish.clone(),
                    ));
                }
            }
            let taken = found.taken;
            drop(found);
            self.input.take(taken);
        }
        Ok(!self.output.is_empty())
    }

    /// Sends what has been answered.
    async fn send(&mut self) -> Result<(), Ended> {
        let stalled = self.shared.limits.stalled;
        match self.data.take() {
            None => send_all(&mut self.stream, self.output.bytes(), stalled).await?,
            Some(content) => {
                let send = async {
                    send_more(&self.stream, self.output.bytes()).await?;
                    content.send(&self.stream).await
                };
                timeout(stalled, send).await.map_err(|_| Ended::Stalled)??;
            }
        }
        self.shared.buffers.recycle(&mut self.output);
        Ok(())
    }

    async fn send_finished(&mut self, done: Finished) -> Result<(), Ended> {
        let sent = send_all(&mut self.stream, done.reply.bytes(), self.shared.limits.stalled).await;
        self.shared.buffers.give(done.reply);
        sent
    }

    fn may_take_more(&self) -> bool {
        // With none of its own under way, nothing would wake this connection when others have made room.
        self.waiting < WAITING && (self.held == 0 || self.admission.held.load(Relaxed) < HELD)
    }
}

impl<E: Exporter> Drop for Connection<E> {
    fn drop(&mut self) {
        self.shared.counters.connections.fetch_sub(1, Relaxed);
        self.shared.buffers.give(std::mem::take(&mut self.output));
    }
}

/// Reads from disk on a thread that may block. Nothing comes back if the connection has ended.
async fn finish<E: Exporter>(
    shared: Arc<Shared<E>>,
    client: Arc<tokio::sync::Semaphore>,
    read: PendingRead<E::Fs>,
    done: mpsc::Sender<Finished>,
) {
    let Ok(permit) = client.acquire_owned().await else { return };
    let Ok(_disk) = shared.reads.acquire().await else { return };
    if done.is_closed() {
        return;
    }
    let mut reply = shared.buffers.take();
    reply.u32(0);
    let xid = read.xid();
    let read = tokio::task::spawn_blocking(move || {
        read.finish(&mut reply);
        reply
    });
    // The panic is in the log already.
    let reply = as_record(read.await.ok(), xid);
    // The channel has room for every read under way.
    let _ended = done.try_send(Finished { reply, held: 0, _permit: permit });
}

/// Carries out a call into a directory of the host. Not begun if the connection has ended: whoever made it will make it
/// again.
async fn work<E: Exporter>(
    shared: Arc<Shared<E>>,
    client: Arc<tokio::sync::Semaphore>,
    (call, _held): (Box<PendingCall>, Held),
    done: mpsc::Sender<Finished>,
) {
    let (held, xid) = (call.size(), call.xid());
    // A call of a connection that has ended must not wait here with all that it holds.
    let permit = tokio::select! {
        permit = client.acquire_owned() => permit,
        () = done.closed() => return,
    };
    let Ok(permit) = permit else { return };
    if done.is_closed() {
        return;
    }
    let mut reply = shared.buffers.take();
    reply.u32(0);
    let reply = as_record(shared.workers.run(*call, reply).await, xid);
    // The channel has room for every call under way.
    let _ended = done.try_send(Finished { reply, held, _permit: permit });
}

/// A reply, after room for its header, as a record. If there is none, that was a fault of ours: the client is told so, and
/// does not wait for ever.
fn as_record(reply: Option<Writer>, xid: u32) -> Writer {
    let mut reply = reply.unwrap_or_else(|| {
        let mut reply = Writer::new();
        reply.u32(0);
        encode_accepted(&mut reply, xid, AcceptStat::SystemError);
        reply
    });
    reply.set_u32(0, record::header(reply.len() - 4));
    reply
}

/// Bytes of a call, counted for its address until it is done.
struct Held {
    total: Arc<AtomicUsize>,
    size: usize,
}

impl Held {
    fn new(total: Arc<AtomicUsize>, size: usize) -> Self {
        total.fetch_add(size, Relaxed);
        Self { total, size }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.size, Relaxed);
    }
}

async fn send_all(stream: &mut TcpStream, bytes: &[u8], stalled: std::time::Duration) -> Result<(), Ended> {
    // Nearly always the socket takes everything at once, and then no timer is needed.
    let rest = match stream.try_write(bytes) {
        Ok(sent) => &bytes[sent..],
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bytes,
        Err(error) => return Err(error.into()),
    };
    if rest.is_empty() {
        return Ok(());
    }
    timeout(stalled, stream.write_all(rest)).await.map_err(|_| Ended::Stalled)??;
    Ok(())
}

fn rearm(timer: Pin<&mut Sleep>, after: std::time::Duration) {
    timer.reset(tokio::time::Instant::now() + after);
}

/// Bytes that have come in and are not answered yet.
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Self {
        Self { buffer: vec![0; INPUT_START], start: 0, end: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn take(&mut self, length: usize) {
        self.start += length;
    }

    /// Room for more: never empty while the largest record does not fill the buffer.
    fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            // Full with less than one record. One header more than the longest, so that a longer one is seen as such.
            let larger = if self.buffer.len() < INPUT { (self.buffer.len() * 4).min(INPUT) } else { RECORD + 4 };
            self.buffer.resize(larger, 0);
        } else if self.end == 0 && self.buffer.len() > INPUT {
            self.buffer.truncate(INPUT);
            self.buffer.shrink_to_fit();
        }
        &mut self.buffer[self.end..]
    }

    fn filled(&mut self, length: usize) {
        self.end += length;
    }
}
