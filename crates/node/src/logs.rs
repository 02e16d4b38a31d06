//! The log tools: lines from a node to the server's log store.
//!
//! ```text
//! walt-log-echo STREAM TEXT…      one line
//! walt-log-cat STREAM             standard input
//! walt-log-tee STREAM             standard input, to standard output as well
//! walt-log-monitor COMMAND…       the command's output, to the terminal as well
//! ```
//! Options come first:
//!
//! ```text
//! --timestamp TIME          (echo) this time, in seconds since 1970, instead of now
//! --ts-local                (cat, tee) the time at which a line is read; what they do unless told otherwise
//! --ts-provided             (cat, tee) each line begins with its time, in seconds since 1970, and a blank
//! --ts-server               (cat, tee) the time at which a line comes to the server
//! --patience SECONDS        how long the server may be away at the end before lines are given up (10)
//! --server ADDRESS:PORT     elsewhere than to the node's own server
//! ```

mod monitor;
mod stream;

use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::node::{MAX_LINE, Timestamps, timestamp};

use crate::failure::{Doing as _, Failure};
use stream::{Destination, LogStream};

pub(crate) use self::monitor::run as monitor;

/// Where the time of a line comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Time {
    /// This node's clock.
    Local,
    /// The line itself.
    Provided,
    /// The server's clock.
    Server,
    /// The command line, as it is written there.
    Given(String),
}

/// What stands before the name of the stream, or the command.
#[derive(Debug)]
struct Options {
    to: Destination,
    time: Time,
}

impl Options {
    /// Takes the options that begin the arguments.
    fn split(arguments: &[OsString]) -> Result<(Self, &[OsString]), Failure> {
        let to = Destination { server: None, patience: Duration::from_secs(10), timestamps: Timestamps::Inside };
        let mut options = Self { to, time: Time::Local };
        let mut rest = arguments;
        while let [option, after @ ..] = rest {
            let value = || {
                let value = after.first().map(|value| value.to_string_lossy().into_owned());
                value.ok_or_else(|| Failure::new(format!("{} wants a value", option.to_string_lossy())))
            };
            let taken = match option.to_str() {
                Some("--server") => {
                    let server = value()?;
                    options.to.server = Some(server.parse().doing(|| format!("read the address {server:?}"))?);
                    2
                }
                Some("--patience") => {
                    let text = value()?;
                    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    let no_number = || Failure::new(format!("--patience {text:?} is no number of seconds"));
                    options.to.patience = seconds.ok_or_else(no_number)?;
                    2
                }
                Some("--timestamp") => {
                    let text = value()?;
                    if timestamp(text.as_bytes()).is_none() {
                        return Err(Failure::new(format!("--timestamp {text:?} is no number of seconds since 1970")));
                    }
                    options.time = Time::Given(text);
                    2
                }
                Some("--ts-local") => {
                    options.time = Time::Local;
                    1
                }
                Some("--ts-provided") => {
                    options.time = Time::Provided;
                    1
                }
                Some("--ts-server") => {
                    options.time = Time::Server;
                    1
                }
                _ => break,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        if options.time == Time::Server {
            options.to.timestamps = Timestamps::None;
        }
        Ok((options, rest))
    }

    /// A line as the stream wants it.
    fn line(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut line = match &self.time {
            Time::Local => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                format!("{}.{:06} ", now.as_secs(), now.subsec_micros()).into_bytes()
            }
            Time::Given(time) => format!("{time} ").into_bytes(),
            Time::Server => Vec::new(),
            Time::Provided => {
                let time = text.split(|byte| *byte == b' ').next().unwrap_or_default();
                if timestamp(time).is_none() {
                    let begins = String::from_utf8_lossy(text).chars().take(40).collect::<String>();
                    return Err(Failure::new(format!("a line does not begin with its time: {begins:?}")));
                }
                Vec::new()
            }
        };
        line.extend_from_slice(text);
        Ok(line)
    }
}

pub(crate) fn echo(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-echo", "[--timestamp TIME] STREAM TEXT...", arguments, |options, stream, text| {
        let text: Vec<&[u8]> = text.iter().map(|word| word.as_bytes()).collect();
        let log = LogStream::open(&options.to, stream)?;
        for line in text.join(&b' ').split(|&b| b == b'\n') {
            log.push(options.line(line)?);
        }
        log.close()
    })
}

const COPY_USAGE: &str = "[--ts-local | --ts-provided | --ts-server] STREAM";

pub(crate) fn cat(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-cat", COPY_USAGE, arguments, |options, stream, _| copy(options, stream, false))
}

pub(crate) fn tee(arguments: Vec<OsString>) -> ExitCode {
    finish("walt-log-tee", COPY_USAGE, arguments, |options, stream, _| copy(options, stream, true))
}

/// Takes the arguments apart, runs, and reports.
fn finish(
    name: &str,
    usage: &str,
    arguments: Vec<OsString>,
    run: impl FnOnce(&Options, &str, &[OsString]) -> Result<(), Failure>,
) -> ExitCode {
    let (options, rest) = match Options::split(&arguments) {
        Ok(parts) => parts,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            return ExitCode::from(2);
        }
    };
    let Some((stream, rest)) = rest.split_first() else {
        eprintln!("usage: {name} [--server ADDRESS:PORT] [--patience SECONDS] {usage}");
        return ExitCode::from(2);
    };
    match run(&options, &stream.to_string_lossy(), rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Sends standard input. With `tee`, what is read goes to standard output whatever becomes of the
/// server: a pipeline must not break because its log does.
fn copy(options: &Options, stream: &str, tee: bool) -> Result<(), Failure> {
    let log = LogStream::open(&options.to, stream)?;
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    let mut wrong = None;
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
        // A line that is none is told of, and the others go on.
        match options.line(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Ok(line) => log.push(line),
            Err(failure) => wrong = wrong.or(Some(failure)),
        }
    }
    log.close()?;
    wrong.map_or(Ok(()), Err)
}
