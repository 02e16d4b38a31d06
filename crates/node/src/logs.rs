//! The log tools: lines from a node to the server's log store.
//!
//! ```text
//! walt-log-echo STREAM TEXT…      one line
//! walt-log-cat STREAM             standard input
//! walt-log-tee STREAM             standard input, to standard output as well
//! walt-log-monitor COMMAND…       the command's output, to the terminal as well
//! ```
//! `--server ADDRESS:PORT` first, to send elsewhere than to the node's own server.

mod monitor;

use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::node::{CLOSE, MAX_LINE, SERVER_PORT, Session, StreamName, Timestamps};

use crate::failure::{Doing as _, Failure};
use crate::settings::Settings;

pub(crate) use self::monitor::run as monitor;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn echo(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-echo", "STREAM TEXT...", arguments, |server, stream, text| {
        let text: Vec<&[u8]> = text.iter().map(|word| word.as_bytes()).collect();
        let mut log = LogStream::open(server, stream)?;
        for line in text.join(&b' ').split(|&b| b == b'\n') {
            log.line(line)?;
        }
        log.close()
    })
}

pub(crate) fn cat(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-cat", "STREAM", arguments, |server, stream, _| copy(server, stream, false))
}

pub(crate) fn tee(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-tee", "STREAM", arguments, |server, stream, _| copy(server, stream, true))
}

/// Takes the arguments apart, runs, and reports.
fn finish(
    name: &str,
    usage: &str,
    arguments: Vec<OsString>,
    run: impl FnOnce(Option<SocketAddr>, &str, &[OsString]) -> Result<(), Failure>,
) -> ExitCode {
    let (server, rest) = match split_server(&arguments) {
        Ok(parts) => parts,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            return ExitCode::from(2);
        }
    };
    let Some((stream, rest)) = rest.split_first() else {
        eprintln!("usage: {name} [--server ADDRESS:PORT] {usage}");
        return ExitCode::from(2);
    };
    match run(server, &stream.to_string_lossy(), rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// `--server ADDRESS:PORT`, if the arguments begin with it, and the rest of them.
fn split_server(arguments: &[OsString]) -> Result<(Option<SocketAddr>, &[OsString]), Failure> {
    match arguments {
        [option, server, rest @ ..] if option == "--server" => {
            let server = server.to_string_lossy();
            Ok((Some(server.parse().doing(|| format!("read the address {server:?}"))?), rest))
        }
        rest => Ok((None, rest)),
    }
}

/// Sends standard input. With `tee`, what is read goes to standard output whatever becomes of the
/// server: a pipeline must not break because its log does.
fn copy(server: Option<SocketAddr>, stream: &str, tee: bool) -> Result<(), Failure> {
    let mut log = LogStream::open(server, stream);
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without end is sent in pieces of the longest that the protocol has.
        let mut limited = io::Read::take(&mut input, MAX_LINE as u64 / 2);
        if limited.read_until(b'\n', &mut line).doing(|| "read standard input".into())? == 0 {
            break;
        }
        if tee {
            output.write_all(&line).and_then(|()| output.flush()).doing(|| "write standard output".into())?;
        }
        if let Ok(open) = &mut log {
            if let Err(failure) = open.line(line.strip_suffix(b"\n").unwrap_or(&line)) {
                log = Err(failure);
            }
        }
        if !tee && log.is_err() {
            break;
        }
    }
    log.and_then(LogStream::close)
}

/// A log stream to the server, each line with the time at which it was written.
pub(crate) struct LogStream {
    connection: TcpStream,
    server: SocketAddr,
}

impl LogStream {
    /// Opens `stream` on `server`, or on the node's own.
    pub(crate) fn open(server: Option<SocketAddr>, stream: &str) -> Result<Self, Failure> {
        let name = StreamName::parse(stream).map_err(|error| Failure::new(error.to_string()))?;
        let server = match server {
            Some(server) => server,
            None => SocketAddr::from((Settings::read()?.server, SERVER_PORT)),
        };
        let open = || {
            let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
            connection.set_write_timeout(Some(PATIENCE))?;
            connection.write_all(Session::open_stream(&name, Timestamps::Inside).as_bytes())?;
            Ok::<_, io::Error>(connection)
        };
        Ok(Self { connection: open().doing(|| format!("open log stream {name} on {server}"))?, server })
    }

    /// Sends one line; it has no newline in it.
    pub(crate) fn line(&mut self, text: &[u8]) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = format!("{}.{:06} ", now.as_secs(), now.subsec_micros()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let server = self.server;
        self.connection.write_all(&line).doing(|| format!("send to {server}"))
    }

    /// Ends the stream.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        let server = self.server;
        self.connection.write_all(format!("{CLOSE}\n").as_bytes()).doing(|| format!("send to {server}"))
    }
}
