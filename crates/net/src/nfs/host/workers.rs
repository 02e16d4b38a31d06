//! The threads that carry out calls into host directories.
//!
//! Threads of their own, not those that Tokio lends: each has no file creation mask, and of the daemon's capabilities
//! only those that files need, so that nothing a node asks for is done with more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tokio::sync::{Semaphore, oneshot};
use wire::xdr::Writer;

use super::PendingCall;

/// What acting for others on files takes. Those of the second line are root's alone, as root of a node is root here; the
/// kernel takes them from everybody else.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD);

/// A pool that starts when it is first needed.
#[derive(Debug)]
pub(in crate::nfs) struct Workers {
    threads: usize,
    /// Calls that threads are at: never more than there are threads, so no queue grows.
    busy: Semaphore,
    queue: OnceLock<Sender<Job>>,
}

#[derive(Debug)]
struct Job {
    call: PendingCall,
    reply: Writer,
    done: oneshot::Sender<Writer>,
}

impl Workers {
    pub(in crate::nfs) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self { threads, busy: Semaphore::new(threads), queue: OnceLock::new() }
    }

    /// Carries a call out; its reply is written after what is in `reply` already. `None` if that failed by a fault of ours.
    pub(in crate::nfs) async fn run(&self, call: PendingCall, reply: Writer) -> Option<Writer> {
        let _turn = self.busy.acquire().await.ok()?;
        let (done, result) = oneshot::channel();
        let queue = self.queue.get_or_init(|| self.start());
        queue.send(Job { call, reply, done }).ok()?;
        result.await.ok()
    }

    /// Starts the threads, from one that has given up the daemon's privileges already.
    fn start(&self) -> Sender<Job> {
        let (queue, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..self.threads {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name(format!("persist-{number}"));
            if let Err(error) = thread.spawn(move || work(&jobs)) {
                tracing::error!(%error, "a thread for the files of nodes can not be started");
            }
        }
        queue
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    if let Err(error) = keep_what_files_need() {
        tracing::error!(%error, "a thread for the files of nodes can not give up privileges");
        return;
    }
    loop {
        // Whoever waits for a job holds the lock; it is given up as soon as there is one.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { call, mut reply, done }) = job else { return };
        let answered = catch_unwind(AssertUnwindSafe(|| {
            call.finish(&mut reply);
            reply
        }));
        match answered {
            // Nobody waits any more if the connection has ended.
            Ok(reply) => drop(done.send(reply)),
            Err(_) => {
                let directory = call.directory.path().display();
                tracing::error!(%directory, procedure = call.procedure, "a call ended in a fault of the server itself");
            }
        }
    }
}

fn keep_what_files_need() -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    let kept = |set: CapabilitySet| set.intersection(KEPT);
    let sets = CapabilitySets {
        effective: kept(now.effective),
        permitted: kept(now.permitted),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}
