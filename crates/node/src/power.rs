//! Rebooting the machine.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::system::RebootCommand;

use crate::console::{Level, say};

/// Reboots now, without a word to any process and without writing anything back; returns only if the
/// kernel refuses.
///
/// `trigger`, if there is one, is an open `/proc/sysrq-trigger`: the way out when a driver's shutdown
/// hangs and reboot(2) does not come back.
pub(crate) fn reboot_now(trigger: Option<std::fs::File>) {
    if let Some(mut trigger) = trigger {
        let emergency = move || {
            thread::sleep(Duration::from_secs(10));
            // `b`: reboot at once, without shutting devices down (Documentation/admin-guide/sysrq.rst).
            let _ = trigger.write_all(b"b");
        };
        // Without the thread there is still reboot(2).
        let _ = thread::Builder::new().stack_size(64 * 1024).spawn(emergency);
    }
    if let Err(error) = rustix::system::reboot(RebootCommand::Restart) {
        say(Level::Error, "walt", &format!("reboot: {error}"));
        // The emergency thread may still do it.
        thread::sleep(Duration::from_secs(15));
    }
}

/// Writes dirty data back, as far as that is done within `limit`: a file system that does not answer
/// must not keep the machine from rebooting.
pub(crate) fn sync(limit: Duration) {
    let (done, wait) = std::sync::mpsc::channel();
    let work = move || {
        rustix::fs::sync();
        // Nobody waits any more when the limit is over.
        let _ = done.send(());
    };
    if thread::Builder::new().stack_size(64 * 1024).spawn(work).is_ok() {
        let _ = wait.recv_timeout(limit);
    }
}

/// Ends every process but PID 1 and the caller: first politely, then by force, so that their sockets
/// are closed. Returns after about half a second.
pub(crate) fn end_all_processes() {
    for (signal, time) in [(Signal::TERM, 300), (Signal::KILL, 200)] {
        // "Group 1" is kill(-1): all processes but PID 1 and the caller. Fails only if there is nobody.
        let _ = kill_process_group(Pid::INIT, signal);
        thread::sleep(Duration::from_millis(time));
    }
}
