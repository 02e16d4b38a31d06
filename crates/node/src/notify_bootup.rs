//! Tells the server that the node has booted, and, by the connection that stays, that it is alive.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::mm::{MlockAllFlags, mlockall};
use wire::node::{Answer, KEEP_ALIVE_SECONDS, NOTIFY_BOOTUP_STATUS};

use crate::child::{self, Ended, ImageRoot};
use crate::console::{Level, say};
use crate::failure::{Doing as _, Failure};
use crate::options::Options;

const NAME: &str = "walt-notify-bootup";

/// The image's ssh server.
const SSH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 22);

/// Run once ssh answers, before the server is told.
const ON_BOOTUP: &str = "/bin/on-bootup";

/// A program that takes longer does not keep the node from being up.
const TIME_FOR_ON_BOOTUP: Duration = Duration::from_secs(60);

/// Time between two looks at the ssh port: what a node can lose of its boot time here.
const SSH_INTERVAL: Duration = Duration::from_millis(200);

const PATIENCE: Duration = Duration::from_secs(5);

/// Waits between attempts to reach the server: doubled up to the longest, which is well within the
/// watchdog's grace time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    match notify(arguments) {
        Ok(never) => match never {},
        Err(failure) => {
            say(Level::Error, NAME, &failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn notify(arguments: Vec<OsString>) -> Result<std::convert::Infallible, Failure> {
    let mut options = Options::new(arguments)?;
    let server: SocketAddr = options.required("--server")?;
    let ssh = options.value("--ssh")?.unwrap_or(SSH);
    let root: Option<std::path::PathBuf> = options.value("--root")?;
    let keep_alive = options.value("--keep-alive")?.unwrap_or(KEEP_ALIVE_SECONDS);
    options.end()?;
    if root.is_none() {
        let _ = rustix::process::setsid();
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).doing(|| "lock the notifier into memory".into())?;
    }
    wait_for_ssh(ssh);
    let root = match root {
        Some(path) => ImageRoot::At(path),
        None => ImageRoot::from_standard_input().doing(|| "take over /proc".into())?,
    };
    match child::run(root, ON_BOOTUP, &[], TIME_FOR_ON_BOOTUP) {
        Ended::Absent => {}
        Ended::Returned(status) if status.success() => say(Level::Info, NAME, &format!("{ON_BOOTUP} ran")),
        Ended::Returned(status) => say(Level::Error, NAME, &format!("{ON_BOOTUP}: {status}")),
        Ended::Failed(error) => say(Level::Error, NAME, &format!("{ON_BOOTUP}: {error}")),
        Ended::StillRunning => say(Level::Info, NAME, &format!("{ON_BOOTUP} is still running")),
    }
    let mut wait = FIRST_WAIT;
    loop {
        let mut told = false;
        let Err(error) = stay_connected(server, Duration::from_secs(keep_alive), &mut told);
        if told {
            say(Level::Info, NAME, &format!("connection to {server} lost: {error}"));
            wait = FIRST_WAIT;
        }
        thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Returns once the ssh server greets: that it accepts may only mean that somebody listens for it
/// (socket activation).
fn wait_for_ssh(address: SocketAddr) {
    while !matches!(greets(address), Ok(true)) {
        thread::sleep(SSH_INTERVAL);
    }
}

fn greets(address: SocketAddr) -> io::Result<bool> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    // RFC 4253 §4.2: at most 255 bytes a line.
    match BufReader::new((&stream).take(255)).read_line(&mut greeting) {
        Ok(0) => return Ok(false),
        Ok(_) => {}
        // Accepted, and silent: some other server that lets the client speak first.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(true),
        Err(error) => return Err(error),
    }
    // sshd logs an error for a client that goes without its identification, or resets the connection by
    // leaving something unread, and only a notice for one that takes its leave. Nobody waits for that.
    let leave = move || {
        let _ = (&stream).write_all(b"SSH-2.0-walt_notify_bootup\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = io::copy(&mut (&stream).take(64 * 1024), &mut io::sink());
    };
    let _ = thread::Builder::new().stack_size(64 * 1024).spawn(leave);
    Ok(true)
}

/// Notifies the server and keeps the connection until it is lost; `told` is set once the server has
/// said `OK`.
fn stay_connected(server: SocketAddr, keep_alive: Duration, told: &mut bool) -> io::Result<std::convert::Infallible> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server that vanished without a word is noticed after this time, not after TCP's quarter hour.
    let limit = u32::try_from(keep_alive.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&stream, limit)?;
    stream.write_all(format!("{NOTIFY_BOOTUP_STATUS}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new((&stream).take(256)).read_line(&mut line)?;
    match Answer::parse(&line) {
        Ok(Answer::Ok) => *told = true,
        Ok(Answer::Ko(reason)) => return Err(io::Error::other(reason)),
        Err(error) => return Err(io::Error::other(error.to_string())),
    }
    stream.set_read_timeout(Some(keep_alive))?;
    let mut ignored = [0; 64];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            // The server has nothing to say on this connection.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                stream.write_all(b"\n")?;
            }
            Err(error) => return Err(error),
        }
    }
}
