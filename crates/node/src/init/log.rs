//! The boot's own log: a line a step, on the console and to the server.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wire::node::{BOOT_STREAM, BootStep, CLOSE, NEW_INCOMING_LOGS, SERVER_PORT};

use crate::console::{Level, say};
use crate::failure::Failure;

/// Lines that wait for the server at most; there are fewer steps than that.
const QUEUE: usize = 64;

/// How long connecting and each write may take, in the background.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the boot waits, at its end, for the last lines to be on their way.
const FAREWELL: Duration = Duration::from_millis(500);

/// Sends lines from a thread of its own, so that no step ever waits for the server.
#[derive(Default)]
pub(super) struct BootLog {
    connection: Option<(SyncSender<String>, Receiver<()>)>,
    /// Lines from before the server's address was known.
    early: Vec<String>,
}

impl BootLog {
    /// Begins to send, what was logged before included.
    pub(super) fn connect(&mut self, server: Ipv4Addr) {
        let (lines, queue) = mpsc::sync_channel(QUEUE);
        let (done, finished) = mpsc::sync_channel(0);
        let send = move || {
            // Dropping `done` tells the boot that the last line is written.
            let _done: SyncSender<()> = done;
            if let Err(error) = send_lines(SocketAddr::from((server, SERVER_PORT)), &queue) {
                say(Level::Info, "walt-init", &format!("the server gets no boot log: {error}"));
            }
        };
        if thread::Builder::new().stack_size(64 * 1024).spawn(send).is_ok() {
            self.early.drain(..).for_each(|line| drop(lines.try_send(line)));
            self.connection = Some((lines, finished));
        }
    }

    /// Logs the end of a step.
    pub(super) fn step(&mut self, name: &str, result: &Result<String, Failure>) {
        let detail = result.as_ref().map_or_else(ToString::to_string, Clone::clone);
        match result {
            Ok(_) => say(Level::Info, "walt-init", &format!("{name}: {detail}")),
            Err(_) => say(Level::Error, "walt-init", &format!("{name} FAILED: {detail}")),
        }
        let line = BootStep { name: name.to_owned(), uptime_ms: uptime_ms(), ok: result.is_ok(), detail }.to_string();
        match &self.connection {
            // A full queue means a server that takes nothing: its timeline then lacks this line.
            Some((lines, _)) => drop(lines.try_send(line)),
            None => self.early.push(line),
        }
    }

    /// Ends the stream, and waits a moment for what is still on its way.
    pub(super) fn close(&mut self) {
        if let Some((lines, finished)) = self.connection.take() {
            drop(lines);
            let _ = finished.recv_timeout(FAREWELL);
        }
    }
}

fn send_lines(server: SocketAddr, queue: &Receiver<String>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{NEW_INCOMING_LOGS}\n{BOOT_STREAM}\nNO_TIMESTAMPS\n").as_bytes())?;
    while let Ok(line) = queue.recv() {
        stream.write_all(format!("{line}\n").as_bytes())?;
    }
    stream.write_all(format!("{CLOSE}\n").as_bytes())
}

/// Since the kernel started, suspended time included.
fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
