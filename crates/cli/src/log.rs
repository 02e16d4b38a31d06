//! `walt log`.

pub(crate) mod args;
mod format;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};
use api::{Checkpoint, LogLine};

use crate::http::{self, Body, Client, HttpError, Sent, target};
use crate::node;
use crate::report::{self, say};
use crate::table;
use args::{LogCommand, LogSelection, WaitMode};
use format::Format;

/// How dates are shown, and read after `--date`.
const DATE: &str = "%Y-%m-%d %H:%M:%S";

pub(crate) fn run(client: &Client, command: LogCommand) -> Result<(), Error> {
    match command {
        LogCommand::Show { history, realtime, selection, format, json } => {
            let format = if json { None } else { Some(Format::parse(&format)?) };
            show(client, history.as_deref(), realtime, &selection, format.as_ref())
        }
        LogCommand::Wait { selection, mode, time_margin, timeout } => {
            wait(client, &selection, mode, time_margin, timeout.map(Duration::from_secs))
        }
        LogCommand::AddCheckpoint { name, date } => add_checkpoint(client, name, date.as_deref()),
        LogCommand::ListCheckpoints { json } => list_checkpoints(client, json),
        LogCommand::RemoveCheckpoint { name } => {
            client.send("DELETE", &target(&["v1", "checkpoints", &name], &[]), Sent::Nothing)?;
            say(format_args!("checkpoint {name} is removed"))
        }
    }
}

/// The lines that are selected, as they come.
fn lines(
    client: &Client,
    history: Option<&str>,
    realtime: bool,
    selection: &LogSelection,
) -> Result<impl Iterator<Item = Result<LogLine, Error>>, Error> {
    let mut query = vec![("issuers", issuers(selection))];
    query.extend(history.map(|range| ("history", range)));
    query.extend(realtime.then_some(("realtime", "true")));
    query.extend(streams(selection).map(|streams| ("streams", streams)));
    query.extend(selection.regex.as_deref().map(|regex| ("lines", regex)));
    let body: Body = client.send("GET", &target(&["v1", "logs"], &query), Sent::Nothing)?;
    Ok(BufReader::new(body).lines().map(|line| {
        let line = line.map_err(cut_off)?;
        Ok(serde_json::from_str(&line).map_err(|error| HttpError::Nonsense(error.to_string()))?)
    }))
}

/// What came before it must not be taken for all that there is.
fn cut_off(cause: std::io::Error) -> Error {
    let is_cut = cause.kind() == std::io::ErrorKind::UnexpectedEof;
    let error = Error::from(HttpError::Broken(cause));
    if is_cut {
        return error
            .context("lines are missing: walt-server-daemon has stopped, or its own log says what it could not read");
    }
    error
}

fn issuers(selection: &LogSelection) -> &str {
    match &selection.issuers {
        Some(set) => set,
        None if selection.platform || selection.server => "server",
        None => "my-nodes",
    }
}

fn streams(selection: &LogSelection) -> Option<&str> {
    match (selection.platform, selection.server) {
        (true, true) => Some("^(platform|daemon)$"),
        (true, false) => Some("^platform$"),
        (false, true) => Some("^daemon$"),
        (false, false) => selection.streams.as_deref(),
    }
}

fn show(
    client: &Client,
    history: Option<&str>,
    realtime: bool,
    selection: &LogSelection,
    format: Option<&Format>,
) -> Result<(), Error> {
    if history.is_none() && !realtime {
        bail!("say --history RANGE, for lines of the past (`full`, `-5m:`), or --realtime, for those to come");
    }
    let mut stdout = std::io::stdout().lock();
    for line in lines(client, history, realtime, selection)? {
        let line = line?;
        let text = match format {
            Some(format) => format.of(&line)?,
            None => serde_json::to_string(&line).context("writing JSON")?,
        };
        // Each line at once: a program may be waiting for it at the other end of a pipe.
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("writing to standard output")?;
    }
    Ok(())
}

fn wait(
    client: &Client,
    selection: &LogSelection,
    mode: WaitMode,
    time_margin: Option<u32>,
    timeout: Option<Duration>,
) -> Result<(), Error> {
    let mut missing = match mode {
        WaitMode::Any => BTreeSet::new(),
        WaitMode::All => members(client, issuers(selection))?,
    };
    if let Some(limit) = timeout {
        give_up_after(limit, selection);
    }
    let history = time_margin.map(|seconds| format!("-{seconds}s:"));
    let format = Format::parse(format::DEFAULT)?;
    for line in lines(client, history.as_deref(), true, selection)? {
        let line = line?;
        say(format.of(&line)?)?;
        missing.remove(&line.issuer);
        if missing.is_empty() {
            return Ok(());
        }
    }
    Err(HttpError::Nonsense("it stopped telling".into()).into())
}

/// Ends the program with a failure if it still runs after `limit`: whatever it waits for, it is reading from a socket.
fn give_up_after(limit: Duration, selection: &LogSelection) {
    let what = match &selection.regex {
        Some(regex) => format!("no line with {regex:?} has come"),
        None => "no line has come".to_owned(),
    };
    let begun = Instant::now();
    std::thread::spawn(move || {
        while let Some(left) = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
        report::failure(&Error::msg(format!("{what} in {} s", limit.as_secs())));
        std::process::exit(1);
    });
}

/// Names of the issuers in a set.
fn members(client: &Client, set: &str) -> Result<BTreeSet<String>, Error> {
    let (server, nodes): (Vec<_>, Vec<_>) = set.split(',').map(str::trim).partition(|part| *part == "server");
    let mut names: BTreeSet<String> = server.into_iter().map(str::to_owned).collect();
    if !nodes.is_empty() {
        names.extend(node::members(client, &nodes.join(","))?.into_iter().map(|node| node.name));
    }
    Ok(names)
}

fn add_checkpoint(client: &Client, name: String, date: Option<&str>) -> Result<(), Error> {
    let timestamp_us = date.map(parse_date).transpose()?;
    let request = http::json(&Checkpoint { name, timestamp_us });
    let added: Checkpoint = client.send("POST", "/v1/checkpoints", request)?.json()?;
    say(format_args!("checkpoint {} is {}", added.name, date_of(added.timestamp_us.unwrap_or_default())?))
}

fn list_checkpoints(client: &Client, json: bool) -> Result<(), Error> {
    let checkpoints: Vec<Checkpoint> = client.get("/v1/checkpoints")?;
    if json {
        return report::json(&checkpoints);
    }
    if checkpoints.is_empty() {
        return say("you have no checkpoints");
    }
    let rows = checkpoints
        .into_iter()
        .map(|checkpoint| Ok([checkpoint.name, date_of(checkpoint.timestamp_us.unwrap_or_default())?]));
    table::print(["name", "date"], &rows.collect::<Result<Vec<_>, Error>>()?)
}

fn date_of(at_us: i64) -> Result<String, Error> {
    format::time(DATE, at_us)
}

/// Microseconds of a date in this machine's time zone.
fn parse_date(text: &str) -> Result<i64, Error> {
    let date: jiff::civil::DateTime =
        text.parse().map_err(|_| Error::msg(format!("{text:?} is not a date, such as \"2026-11-25 14:30:00\"")))?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::system()).with_context(|| format!("the date {text:?}"))?;
    Ok(zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn lines_that_are_cut_off_are_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            let line = r#"{"timestamp_us":1,"issuer":"n","stream":"s","line":"first"}"#;
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(stream, "{head}{:x}\r\n{line}\n\r\n", line.len() + 1).unwrap();
        });
        let selection = LogSelection { issuers: None, platform: false, server: true, streams: None, regex: None };
        let client = Client::new(path);
        let mut lines = lines(&client, Some("full"), false, &selection).unwrap();
        assert_eq!(lines.next().unwrap().unwrap().line, "first");
        let error = format!("{:#}", lines.next().unwrap().unwrap_err());
        assert!(error.contains("lines are missing") && error.contains("broke"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn dates_are_read_as_they_are_shown() {
        let shown = date_of(parse_date("2026-11-25 14:30:00").unwrap()).unwrap();
        assert_eq!(shown, "2026-11-25 14:30:00");
        assert_eq!(parse_date("2026-11-25T14:30:00").unwrap(), parse_date("2026-11-25 14:30").unwrap());
        assert!(parse_date("yesterday").unwrap_err().to_string().contains("2026-11-25"));
    }
}
