//! From one RPC message to its reply.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wire::nfs3::{Arguments, ReadHeader, Status, encode_post_op};
use wire::rpc::{AcceptStat, Call, CallError, encode_accepted, encode_denied};
use wire::xdr::{Reader, Writer};

use super::filesystem::{Exporter, Filesystem};
use super::host::{self, HostHandle, PendingCall};
use super::portmap::Ports;
use super::procedures::{Files, Read, Rest};
use super::{Content, Counters, HandleKey, attributes, mount, portmap};

/// How the call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A record on a connection.
    Tcp,
    /// A datagram, into one of which the reply must fit as well.
    Udp,
}

impl Transport {
    /// Largest READ, in bytes.
    pub(super) const fn read_size(self) -> u32 {
        match self {
            Self::Tcp => 1 << 20,
            // As the Linux server has it: what fits in a datagram beside the headers, as a power of two.
            Self::Udp => 32 << 10,
        }
    }

    /// Largest directory listing, in bytes.
    pub(super) const fn dir_size(self) -> u32 {
        match self {
            Self::Tcp => 128 << 10,
            Self::Udp => 32 << 10,
        }
    }
}

/// Who calls, as the network says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Source address.
    pub ip: Ipv4Addr,
    /// How the call came.
    pub transport: Transport,
    /// Whether it came from a port that only root of the client may use (below 1024): then the client's kernel says who
    /// calls, and else any of its programs may say so.
    pub privileged: bool,
}

impl Caller {
    /// Whoever is at `peer`.
    pub fn new(peer: SocketAddrV4, transport: Transport) -> Self {
        Self { ip: *peer.ip(), transport, privileged: peer.port() < 1024 }
    }
}

/// What became of a message.
#[derive(Debug)]
pub enum Answer<Fs> {
    /// The reply is in the writer.
    Reply,
    /// There is nothing to say.
    Silence,
    /// The reply is in the writer up to its data (which only a connection is given like this).
    Data(Content<Fs>),
    /// Nothing is in the writer: the reply needs data that is not in memory.
    Wait(PendingRead<Fs>),
    /// Nothing is in the writer: the call is one into a directory of the host.
    Work(Box<PendingCall>),
}

/// A READ whose data must come from the disk.
#[derive(Debug)]
pub struct PendingRead<Fs> {
    xid: u32,
    read: Read<Fs>,
}

impl<Fs: Filesystem> PendingRead<Fs> {
    /// Number of the call, for its reply.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// Reads the data and writes the reply. Blocks.
    pub fn finish(&self, out: &mut Writer) {
        let start = out.len();
        encode_accepted(out, self.xid, AcceptStat::Success);
        let Read { fs, attr, offset, count } = &self.read;
        let wire_attr = attributes::file_attr(attr, fs.fsid());
        ReadHeader::encode(out, &wire_attr, *count, self.read.reaches_end());
        let room = out.room(*count as usize);
        // An index that promises more than its layers hold is a broken store: an error, not a short file.
        if !matches!(fs.read_at(attr.ino, *offset, room), Ok(n) if n == *count as usize) {
            out.truncate(start);
            encode_accepted(out, self.xid, AcceptStat::Success);
            out.u32(Status::Io as u32);
            encode_post_op(out, Some(&wire_attr));
            return;
        }
        out.pad(*count as usize);
    }
}

/// Answers the three programs.
#[derive(Debug)]
pub struct Dispatcher<E> {
    exporter: E,
    key: HandleKey,
    ports: Ports,
    counters: Arc<Counters>,
}

impl<E: Exporter> Dispatcher<E> {
    /// A dispatcher for `exporter`, whose port mapper names the ports `portmap` and `nfs`.
    pub fn new(exporter: E, key: HandleKey, portmap: u16, nfs: u16, counters: Arc<Counters>) -> Self {
        Self { exporter, key, ports: Ports { portmap, nfs }, counters }
    }

    /// Answers one message; a reply is written after what `out` holds already. Never blocks.
    pub fn answer(&self, caller: Caller, message: &[u8], out: &mut Writer) -> Answer<E::Fs> {
        self.counters.messages.fetch_add(1, Relaxed);
        let mut reader = Reader::new(message);
        let call = match Call::decode(&mut reader) {
            Ok(call) => call,
            Err(CallError::NotACall) => {
                self.counters.malformed.fetch_add(1, Relaxed);
                return Answer::Silence;
            }
            Err(CallError::Denied { xid, reason }) => {
                self.counters.denied.fetch_add(1, Relaxed);
                encode_denied(out, xid, reason);
                return Answer::Reply;
            }
        };
        let start = out.len();
        encode_accepted(out, call.xid, AcceptStat::Success);
        let result = match (call.program, call.version) {
            (wire::nfs3::PROGRAM, wire::nfs3::VERSION) => self.nfs(caller, &call, &mut reader, out),
            (wire::mount::PROGRAM, wire::mount::VERSION) => {
                mount::answer(&self.exporter, &self.key, caller.ip, call.procedure, &mut reader, out)
                    .map(|()| Done::Reply)
            }
            (wire::portmap::PROGRAM, wire::portmap::VERSION) => {
                portmap::answer(self.ports, call.procedure, &mut reader, out)
                    .map(|reply| if reply { Done::Reply } else { Done::Silence })
            }
            // RFC 5531 §9: the versions that there are, so that a client which tries a later one first comes down.
            (wire::nfs3::PROGRAM | wire::mount::PROGRAM, _) => {
                Err(AcceptStat::ProgramMismatch { low: wire::nfs3::VERSION, high: wire::nfs3::VERSION })
            }
            (wire::portmap::PROGRAM, _) => {
                Err(AcceptStat::ProgramMismatch { low: wire::portmap::VERSION, high: wire::portmap::VERSION })
            }
            _ => Err(AcceptStat::ProgramUnavailable),
        };
        match result {
            Ok(Done::Reply) => Answer::Reply,
            Ok(Done::Silence) => {
                out.truncate(start);
                Answer::Silence
            }
            Ok(Done::Rest(Rest::Data(content))) => Answer::Data(content),
            Ok(Done::Rest(Rest::Wait(read))) => {
                out.truncate(start);
                self.counters.reads_from_disk.fetch_add(1, Relaxed);
                Answer::Wait(PendingRead { xid: call.xid, read })
            }
            Ok(Done::Work(call)) => {
                out.truncate(start);
                Answer::Work(call)
            }
            Err(stat) => {
                let counter = match stat {
                    AcceptStat::GarbageArguments => &self.counters.malformed,
                    _ => &self.counters.unavailable,
                };
                counter.fetch_add(1, Relaxed);
                out.truncate(start);
                encode_accepted(out, call.xid, stat);
                Answer::Reply
            }
        }
    }

    fn nfs(
        &self,
        caller: Caller,
        call: &Call,
        reader: &mut Reader<'_>,
        out: &mut Writer,
    ) -> Result<Done<E::Fs>, AcceptStat> {
        // Every procedure that has arguments begins them with a handle.
        let first = Reader::new(reader.rest()).opaque(wire::nfs3::MAX_HANDLE as u32).unwrap_or_default();
        if HostHandle::is_claimed_by(first)
            && let Some(handle) = HostHandle::verify(first, &self.key)
        {
            return Ok(self.host(caller, call, &handle, reader.rest(), out));
        }
        let arguments = Arguments::decode(call.procedure, reader)
            .map_err(|_| AcceptStat::GarbageArguments)?
            .ok_or(AcceptStat::ProcedureUnavailable)?;
        let files = Files {
            exporter: &self.exporter,
            key: &self.key,
            counters: &self.counters,
            caller,
            credential: &call.credential,
        };
        Ok(files.answer(&arguments, out).map_or(Done::Reply, Done::Rest))
    }

    /// A call with a handle into a directory of the host.
    fn host(
        &self,
        caller: Caller,
        call: &Call,
        handle: &HostHandle,
        arguments: &[u8],
        out: &mut Writer,
    ) -> Done<E::Fs> {
        let Some(directory) = self.exporter.directory(caller.ip, handle.fsid) else {
            self.counters.stale_handles.fetch_add(1, Relaxed);
            host::refuse(call.procedure, Status::Stale, out);
            return Done::Reply;
        };
        // What an image is made of is no secret of the node's users; this is theirs.
        if !caller.privileged {
            self.counters.denied.fetch_add(1, Relaxed);
            host::refuse(call.procedure, Status::Access, out);
            return Done::Reply;
        }
        Done::Work(Box::new(PendingCall {
            xid: call.xid,
            procedure: call.procedure,
            credential: call.credential,
            transport: caller.transport,
            directory,
            key: self.key.clone(),
            counters: Arc::clone(&self.counters),
            arguments: arguments.to_vec(),
        }))
    }
}

/// What became of a call that was accepted.
enum Done<Fs> {
    Reply,
    Silence,
    Rest(Rest<Fs>),
    Work(Box<PendingCall>),
}
