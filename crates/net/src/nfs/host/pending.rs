//! A call into a host directory, on its way to a thread that may block.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wire::nfs3::{Arguments, Change, Status, Wcc, encode_linked, encode_post_op, encode_renamed, procedure};
use wire::rpc::{AcceptStat, Credential, encode_accepted};
use wire::xdr::{Reader, Writer};

use super::HostDirectory;
use super::call::Call;
use super::replies::{Key, Known, Time};
use super::who::Who;
use crate::nfs::{Counters, HandleKey, Transport};

/// A call whose reply needs the disk.
#[derive(Debug)]
pub struct PendingCall {
    pub(in crate::nfs) xid: u32,
    pub(in crate::nfs) procedure: u32,
    pub(in crate::nfs) credential: Credential,
    pub(in crate::nfs) transport: Transport,
    pub(in crate::nfs) directory: Arc<HostDirectory>,
    pub(in crate::nfs) key: HandleKey,
    pub(in crate::nfs) counters: Arc<Counters>,
    pub(in crate::nfs) arguments: Vec<u8>,
}

thread_local! {
    /// Whether this thread makes files with exactly the mode that is asked for.
    static READY: Cell<bool> = const { Cell::new(false) };
}

impl PendingCall {
    /// Number of the call, for its reply.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.arguments.len()
    }

    /// Carries the call out and writes the reply. Blocks, and leaves the thread without a file creation mask: for threads
    /// that do nothing else.
    pub fn finish(&self, out: &mut Writer) {
        if !READY.get() {
            match sys::identity::own_empty_umask() {
                Ok(()) => READY.set(true),
                Err(error) => {
                    tracing::error!(%error, "a thread can not work for nodes");
                    return encode_accepted(out, self.xid, AcceptStat::SystemError);
                }
            }
        }
        let start = out.len();
        // What a connection looks at for a client is done as often as it asks; what changes something once.
        let replies = is_kept(self.procedure).then(|| self.directory.replies()).flatten();
        let Some(replies) = replies else {
            self.answer(None, out);
            return;
        };
        let uid = match self.credential {
            Credential::Sys(identity) => identity.uid,
            Credential::None => u32::MAX,
        };
        let key = Key::new(self.xid, self.procedure, uid, &self.arguments);
        let (ticket, begun) = match replies.begin(key) {
            Known::Answered(reply) => {
                self.counters.replayed.fetch_add(1, Relaxed);
                return out.raw(&reply);
            }
            Known::New(ticket) => (ticket, None),
            Known::BegunBefore(ticket, since) => (ticket, Some(since)),
        };
        self.answer(begun, out);
        ticket.answered(&out.bytes()[start..]);
    }

    fn answer(&self, begun: Option<Time>, out: &mut Writer) {
        let start = out.len();
        encode_accepted(out, self.xid, AcceptStat::Success);
        let call = Call {
            dir: &self.directory,
            key: &self.key,
            counters: &self.counters,
            who: Who::new(&self.credential),
            transport: self.transport,
            begun,
        };
        let mut reader = Reader::new(&self.arguments);
        let stat = match Change::decode(self.procedure, &mut reader) {
            Ok(Some(change)) => return call.change(&change, out),
            Ok(None) => match Arguments::decode(self.procedure, &mut reader) {
                Ok(Some(arguments)) => return call.read_only(&arguments, out),
                Ok(None) => AcceptStat::ProcedureUnavailable,
                Err(_) => AcceptStat::GarbageArguments,
            },
            Err(_) => AcceptStat::GarbageArguments,
        };
        self.counters.malformed.fetch_add(1, Relaxed);
        out.truncate(start);
        encode_accepted(out, self.xid, stat);
    }
}

/// Whether the answer to a procedure is kept for those who ask again. WRITE, too: done late, it might undo a later one.
fn is_kept(number: u32) -> bool {
    use procedure as p;
    matches!(
        number,
        p::SETATTR
            | p::WRITE
            | p::CREATE
            | p::MKDIR
            | p::SYMLINK
            | p::MKNOD
            | p::REMOVE
            | p::RMDIR
            | p::RENAME
            | p::LINK
    )
}

/// Writes the results of a call with a handle that leads nowhere.
pub(in crate::nfs) fn refuse(number: u32, status: Status, out: &mut Writer) {
    let nothing = Wcc::default();
    match number {
        procedure::RENAME => encode_renamed(out, status, &nothing, &nothing),
        procedure::LINK => encode_linked(out, status, None, &nothing),
        procedure::GETATTR => out.u32(status as u32),
        number if is_kept(number) || number == procedure::COMMIT => {
            wire::nfs3::encode_changed(out, status, &nothing);
        }
        _ => {
            out.u32(status as u32);
            encode_post_op(out, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wire::nfs3::{CreateHow, NewAttributes};
    use wire::rpc::UnixIdentity;

    use super::*;
    use crate::nfs::HostTree;

    fn served(place: &Path) -> Arc<HostDirectory> {
        HostTree::open(place, 0, 1).unwrap().directory("n", "ada").unwrap()
    }

    fn call(directory: &Arc<HostDirectory>, xid: u32, change: &Change<'_>) -> PendingCall {
        let mut arguments = Writer::new();
        change.encode(&mut arguments);
        PendingCall {
            xid,
            procedure: change.procedure(),
            credential: Credential::Sys(UnixIdentity::new(0, 0, &[])),
            transport: Transport::Tcp,
            directory: Arc::clone(directory),
            key: HandleKey::new([7; 16]),
            counters: Arc::new(Counters::default()),
            arguments: arguments.bytes().to_vec(),
        }
    }

    fn status(call: &PendingCall) -> u32 {
        let mut out = Writer::new();
        call.finish(&mut out);
        Reader::new(&out.bytes()[24..]).u32().unwrap()
    }

    #[test]
    fn what_a_server_did_before_it_was_killed_is_a_success_to_who_asks_again() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().join("persist");
        let root = served(&place).root().sign(&HandleKey::new([7; 16]));
        let dir = root.as_slice();
        let new = NewAttributes { mode: Some(0o700), ..NewAttributes::default() };
        let made = served(&place);
        for name in [&b"gone"[..], b"old"] {
            let create = Change::Create { dir, name, how: CreateHow::Guarded(new) };
            assert_eq!(status(&call(&made, 1, &create)), 0);
        }
        let changes = [
            (Change::MkDir { dir, name: b"d", new }, Status::Exists),
            (Change::SymLink { dir, name: b"s", new, target: b"x" }, Status::Exists),
            (Change::Create { dir, name: b"f", how: CreateHow::Guarded(new) }, Status::Exists),
            (Change::Remove { dir, name: b"gone" }, Status::NotFound),
            (Change::Rename { from: (dir, b"old"), to: (dir, b"new") }, Status::NotFound),
            (Change::RmDir { dir, name: b"d" }, Status::NotFound),
        ];
        for (xid, (change, otherwise)) in (10..).step_by(10).zip(changes) {
            let begin = |xid| {
                let killed = served(&place);
                let again = call(&killed, xid, &change);
                let known = killed.replies().unwrap().begin(Key::new(xid, change.procedure(), 0, &again.arguments));
                std::mem::forget(known);
            };
            // As it looks when the server was killed between doing it and answering.
            begin(xid + 1);
            assert_eq!(status(&call(&served(&place), xid, &change)), 0, "{change:?}");
            assert_eq!(status(&call(&served(&place), xid + 1, &change)), 0, "{change:?}");
            // Whoever asks for the first time is told how it is.
            assert_eq!(status(&call(&served(&place), xid + 2, &change)), otherwise as u32, "{change:?}");
            // And so is whoever was about to be told when the server was killed. (Clocks of files tick at 100 Hz or more.)
            std::thread::sleep(std::time::Duration::from_millis(30));
            begin(xid + 3);
            assert_eq!(status(&call(&served(&place), xid + 3, &change)), otherwise as u32, "{change:?}");
        }
    }
}
