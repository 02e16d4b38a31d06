//! `walt-send-files PATH` and `walt-receive-files PATH`: the node's end of `walt node cp`.

use std::ffi::OsString;
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tree::Keep;

/// Bytes that are read or written at once.
const PIECE: usize = 128 * 1024;

/// Writes a file or a directory to standard output.
pub(crate) fn send(arguments: Vec<OsString>) -> ExitCode {
    let [path] = &arguments[..] else {
        eprintln!("usage: walt-send-files PATH");
        return ExitCode::from(2);
    };
    let mut out = io::BufWriter::with_capacity(PIECE, io::stdout().lock());
    let sent = tree::send(Path::new(path), &mut out, |_| ());
    let sent = sent.and_then(|sent| out.flush().map(|()| sent).map_err(tree::SendError::Write));
    match sent {
        Ok(sent) if sent.left_out.is_empty() => ExitCode::SUCCESS,
        Ok(sent) => {
            sent.left_out.iter().for_each(|what| eprintln!("left out: {what}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes files of what comes on standard input.
pub(crate) fn receive(arguments: Vec<OsString>) -> ExitCode {
    let [path] = &arguments[..] else {
        eprintln!("usage: walt-receive-files PATH");
        return ExitCode::from(2);
    };
    let input = BufReader::with_capacity(PIECE, io::stdin().lock());
    match tree::receive(input, Path::new(path), None, Keep::All, |_| ()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
