//! Answers to calls that can't be done twice, for clients that did not get them and send the call again.
//!
//! A connection that breaks, or a server that is killed, loses replies; the client then sends the same call once more. What
//! was a success must not become "there is no such file" by that. The table is a file that is written without waiting for
//! the disk: it outlives this program, however that ends, though not a power cut. A call that was begun and not answered
//! when the server ended is known as such, and may find its own work done.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use siphasher::sip::SipHasher24;

/// Calls that are remembered of one directory: many times what a client has under way.
const SLOTS: usize = 128;
/// Bytes of one in the file.
const SLOT: usize = 512;
const HEADER: usize = 40;
const MAGIC: [u8; 4] = *b"WPR2";
const BEGUN: u32 = 1;
const ANSWERED: u32 = 2;
/// Bytes of a call that are looked at, and its length: as in other servers, enough to tell it from any other with its number.
const LOOKED_AT: usize = 1024;
/// How long an answer counts: much longer than a client waits before it sends a call again.
const KEPT: Duration = Duration::from_secs(600);

/// What tells one call from others of the same client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    xid: u32,
    digest: u64,
}

impl Key {
    pub(super) fn new(xid: u32, procedure: u32, uid: u32, arguments: &[u8]) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(&procedure.to_be_bytes());
        hasher.write(&uid.to_be_bytes());
        hasher.write(&(arguments.len() as u64).to_be_bytes());
        hasher.write(&arguments[..arguments.len().min(LOOKED_AT)]);
        Self { xid, digest: hasher.finish() }
    }
}

/// What is known of a call that has come in.
#[derive(Debug)]
pub(super) enum Known<'a> {
    /// It has been answered.
    Answered(Vec<u8>),
    /// It is to be done.
    New(Ticket<'a>),
    /// It is to be done, and was begun at this time by a server that ended before it was answered.
    BegunBefore(Ticket<'a>, Time),
}

/// Nanoseconds since 1970, as the kernel's clock ticks that files get their times from.
pub(super) type Time = u64;

/// The table.
#[derive(Debug)]
pub(super) struct Replies {
    file: File,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug)]
struct Table {
    slots: Vec<Option<Entry>>,
    next: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: Key,
    /// When it last counted as new.
    at: Time,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A thread is at it.
    UnderWay,
    /// A server before us was at it, from then on.
    Begun(Time),
    Answered(Vec<u8>),
}

/// The duty to answer.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    replies: &'a Replies,
    slot: Option<usize>,
    key: Key,
}

impl Replies {
    /// Opens the file, or makes it, with what it remembers.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent()
            && let Err(error) = DirBuilder::new().mode(0o700).create(parent)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut slots = vec![None; SLOTS];
        let now = now();
        for (index, slot) in slots.iter_mut().enumerate() {
            let mut bytes = [0; SLOT];
            match file.read_exact_at(&mut bytes, (index * SLOT) as u64) {
                // Their time begins anew: the server may have been away for longer, and clients ask until it is back.
                Ok(()) => *slot = Entry::parse(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        // The oldest is the next to be replaced.
        let next = slots.iter().enumerate().min_by_key(|(_, slot)| slot.as_ref().map_or(0, |entry| entry.at));
        let next = next.map_or(0, |(index, _)| index);
        slots.iter_mut().flatten().for_each(|entry| entry.at = now);
        Ok(Self { file, table: Mutex::new(Table { slots, next }), changed: Condvar::new() })
    }

    /// Looks a call up. If another thread is at the same, waits for its answer.
    pub(super) fn begin(&self, key: Key) -> Known<'_> {
        let mut table = self.lock();
        let slot = loop {
            // Each time: whoever waited for an answer must not find it to be of the future.
            let now = now();
            let found = table.slots.iter().position(|slot| slot.as_ref().is_some_and(|entry| entry.key == key));
            let Some(index) = found else { break None };
            match table.slots[index].as_ref().filter(|entry| entry.counts(now)).map(|entry| &entry.state) {
                Some(State::Answered(reply)) => return Known::Answered(reply.clone()),
                Some(State::UnderWay) => {
                    table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
                }
                Some(State::Begun(since)) => break Some((index, Some(*since))),
                None => break Some((index, None)),
            }
        };
        let (slot, begun) = match slot {
            Some((index, begun)) => (Some(index), begun),
            None => (table.free(), None),
        };
        let now = now();
        if let Some(index) = slot {
            table.slots[index] = Some(Entry { key, at: now, state: State::UnderWay });
        }
        drop(table);
        if let Some(index) = slot {
            self.write(index, key, begun.unwrap_or(now), BEGUN, &[]);
        }
        let ticket = Ticket { replies: self, slot, key };
        match begun {
            Some(since) => Known::BegunBefore(ticket, since),
            None => Known::New(ticket),
        }
    }

    fn write(&self, slot: usize, key: Key, at: Time, state: u32, reply: &[u8]) {
        let bytes = encode(key, at, state, reply);
        // Without it, a call that is sent again after our end is done again: as with any server that keeps nothing.
        if let Err(error) = self.file.write_all_at(&bytes, (slot * SLOT) as u64) {
            tracing::debug!(%error, "an answer is not kept on disk");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that panics is done under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The slot to be used next; `None` if threads are at all of them.
    fn free(&mut self) -> Option<usize> {
        let under_way = |slot: &Option<Entry>| slot.as_ref().is_some_and(|entry| entry.state == State::UnderWay);
        let index = (0..SLOTS).map(|step| (self.next + step) % SLOTS).find(|index| !under_way(&self.slots[*index]))?;
        self.next = (index + 1) % SLOTS;
        Some(index)
    }
}

impl Ticket<'_> {
    /// Remembers the answer.
    pub(super) fn answered(mut self, reply: &[u8]) {
        let Some(slot) = self.slot.take() else { return };
        let at = now();
        if reply.len() <= SLOT - HEADER {
            self.replies.write(slot, self.key, at, ANSWERED, reply);
        }
        let entry = Entry { key: self.key, at, state: State::Answered(reply.to_vec()) };
        self.replies.lock().slots[slot] = Some(entry);
        self.replies.changed.notify_all();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // Not answered: the next one to ask has to do it.
        if let Some(slot) = self.slot {
            self.replies.lock().slots[slot] = None;
            self.replies.changed.notify_all();
        }
    }
}

impl Entry {
    fn counts(&self, now: Time) -> bool {
        let age = now.checked_sub(self.at).map(Duration::from_nanos);
        self.state == State::UnderWay || age.is_some_and(|age| age <= KEPT)
    }

    /// `None` for anything but a slot as it was written: a power cut may have left half of one.
    fn parse(bytes: &[u8; SLOT]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let reply = bytes.get(HEADER..HEADER.checked_add(word(12)? as usize)?)?;
        if bytes[..4] != MAGIC || long(32)? != check(&bytes[..32], reply) {
            return None;
        }
        let at = long(24)?;
        let state = match word(4)? {
            BEGUN => State::Begun(at),
            ANSWERED => State::Answered(reply.to_vec()),
            _ => return None,
        };
        Some(Self { key: Key { xid: word(8)?, digest: long(16)? }, at, state })
    }
}

fn encode(key: Key, at: Time, state: u32, reply: &[u8]) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&state.to_be_bytes());
    bytes[8..12].copy_from_slice(&key.xid.to_be_bytes());
    bytes[12..16].copy_from_slice(&(reply.len() as u32).to_be_bytes());
    bytes[16..24].copy_from_slice(&key.digest.to_be_bytes());
    bytes[24..32].copy_from_slice(&at.to_be_bytes());
    bytes[HEADER..HEADER + reply.len()].copy_from_slice(reply);
    let check = check(&bytes[..32], reply);
    bytes[32..40].copy_from_slice(&check.to_be_bytes());
    bytes
}

fn check(header: &[u8], reply: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(header);
    hasher.write(reply);
    hasher.finish()
}

fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(xid: u32) -> Key {
        Key::new(xid, 12, 0, b"arguments")
    }

    fn is_new(known: &Known<'_>) -> bool {
        matches!(known, Known::New(_))
    }

    #[test]
    fn an_answer_is_given_again_also_by_the_next_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replies/ada");
        let replies = Replies::open(&path).unwrap();
        match replies.begin(key(1)) {
            Known::New(ticket) => ticket.answered(b"the reply"),
            other => panic!("{other:?}"),
        }
        let again =
            |replies: &Replies| matches!(replies.begin(key(1)), Known::Answered(reply) if reply == b"the reply");
        assert!(again(&replies));
        assert!(is_new(&replies.begin(Key::new(1, 12, 0, b"others"))), "the same number, and another call");
        // Killed in the middle of a call.
        let Known::New(ticket) = replies.begin(key(2)) else { panic!("it is new") };
        std::mem::forget(ticket);
        let next = Replies::open(&path).unwrap();
        assert!(again(&next));
        // Once more, and once more: it was the first that may have done it.
        let Known::BegunBefore(ticket, first) = next.begin(key(2)) else { panic!("it was begun") };
        std::mem::forget(ticket);
        let next = Replies::open(&path).unwrap();
        let Known::BegunBefore(ticket, since) = next.begin(key(2)) else { panic!("it was begun") };
        assert_eq!(first, since);
        ticket.answered(b"done");
        assert!(matches!(next.begin(key(2)), Known::Answered(reply) if reply == b"done"));
    }

    #[test]
    fn a_call_that_came_twice_is_done_once() {
        let directory = tempfile::tempdir().unwrap();
        let replies = Replies::open(&directory.path().join("r")).unwrap();
        let Known::New(ticket) = replies.begin(key(1)) else { panic!("it is new") };
        std::thread::scope(|scope| {
            let second = scope.spawn(|| matches!(replies.begin(key(1)), Known::Answered(reply) if reply == b"x"));
            std::thread::sleep(Duration::from_millis(50));
            ticket.answered(b"x");
            assert!(second.join().unwrap());
        });
        // What was given up is done by whoever asks next.
        drop(replies.begin(key(3)));
        assert!(is_new(&replies.begin(key(3))));
    }

    #[test]
    fn the_oldest_make_room_and_those_under_way_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r");
        let replies = Replies::open(&path).unwrap();
        let Known::New(first) = replies.begin(key(0)) else { panic!("it is new") };
        for xid in 1..=3 * SLOTS as u32 {
            let Known::New(ticket) = replies.begin(key(xid)) else { panic!("{xid} is new") };
            ticket.answered(&xid.to_be_bytes());
        }
        first.answered(b"at last");
        assert!(matches!(replies.begin(key(0)), Known::Answered(_)));
        assert!(is_new(&replies.begin(key(1))));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (SLOTS * SLOT) as u64);
    }

    #[test]
    fn half_a_slot_is_none() {
        let now = now();
        let whole = encode(key(1), now, ANSWERED, b"reply");
        assert!(Entry::parse(&whole).is_some());
        for at in (0..HEADER + 5).filter(|at| *at >= 4) {
            let mut bytes = whole;
            bytes[at] ^= 0x10;
            assert_eq!(Entry::parse(&bytes), None, "byte {at}");
        }
        let mut long = whole;
        long[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Entry::parse(&long), None);
        let old = Entry { key: key(1), at: now - KEPT.as_nanos() as u64 - 1, state: State::Begun(now) };
        assert!(!old.counts(now));
        assert!(!Entry { at: now + 100_000_000_000, ..old }.counts(now), "a clock that was set back");
    }
}
