//! What the person in front of the machine sees.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{LocalModes, OptionalActions, QueueSelector};

/// Log level of the kernel's messages (linux/kern_levels.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// KERN_ERR: shown even by a kernel that was told to be `quiet`.
    Error = 3,
    /// KERN_INFO.
    Info = 6,
}

/// Writes `text` to the kernel's log, and so to every console, the ring buffer and netconsole. Where
/// there is no kernel log, to standard error.
pub(crate) fn say(level: Level, who: &str, text: &str) {
    // Opened anew for each message: the kernel limits the rate of each open file to 10 messages in 5 s
    // (printk.devkmsg=ratelimit), which a boot exceeds.
    let kmsg = OpenOptions::new().write(true).open("/dev/kmsg");
    // One write is one record of the log; LOG_LINE_MAX is about 1 KB.
    let text: String = text.chars().take(800).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let record = format!("<{}>{who}: {text}\n", level as u8);
    if kmsg.and_then(|mut kmsg| kmsg.write_all(record.as_bytes())).is_err() {
        // Nothing is left to tell anybody if this fails too.
        let _ = writeln!(std::io::stderr(), "{who}: {text}");
    }
}

/// Makes the console standard input, output and error, if this process has none (a kernel that mounts
/// its root itself opens the console before `/dev` is mounted, and may fail to).
pub(crate) fn adopt() {
    // Rust's runtime opens /dev/null for what is closed; anything else somebody meant us to have.
    let closed = |status: rustix::fs::Stat| status.st_rdev == rustix::fs::makedev(1, 3);
    if !rustix::fs::fstat(rustix::stdio::stdin()).is_ok_and(closed) {
        return;
    }
    let Ok(console) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) else { return };
    let _ = rustix::stdio::dup2_stdin(&console);
    let _ = rustix::stdio::dup2_stdout(&console);
    let _ = rustix::stdio::dup2_stderr(&console);
}

/// Whether a key was pressed on the console within `time`.
pub(crate) fn key_pressed(time: Duration) -> bool {
    let input = rustix::stdio::stdin();
    let Ok(before) = rustix::termios::tcgetattr(input) else {
        // No terminal: nobody can press a key.
        std::thread::sleep(time);
        return false;
    };
    let mut raw = before.clone();
    raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    let _ = rustix::termios::tcsetattr(input, OptionalActions::Now, &raw);
    // What was typed, or made by a noisy serial line, before the question is no answer to it.
    let _ = rustix::termios::tcflush(input, QueueSelector::IFlush);
    let mut fds = [PollFd::new(&input, PollFlags::IN)];
    let time = rustix::time::Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    let pressed = poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0) && fds[0].revents().contains(PollFlags::IN);
    let _ = rustix::termios::tcflush(input, QueueSelector::IFlush);
    let _ = rustix::termios::tcsetattr(input, OptionalActions::Now, &before);
    pressed
}
