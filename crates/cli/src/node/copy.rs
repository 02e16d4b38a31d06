//! `walt node cp`. The agent on the node is the other end: it needs nothing of the image, neither tar nor scp.

use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow, bail};
use api::Node;
use tree::{Keep, News};

use super::args::{CpArgs, Place};
use super::interrupt::{Ended, Guard, Interrupt};
use super::login::{Login, expect_booted, start};
use super::set::members;
use crate::http::Client;
use crate::progress::Shown;
use crate::report::{self, say};

/// Nodes that a file is copied to at a time: more would share the same line.
const AT_ONCE: usize = 16;

/// Bytes moved at once.
const PIECE: usize = 128 * 1024;

/// Longest complaint of a node that is told.
const MAX_COMPLAINT: u64 = 8 * 1024;

/// What takes no longer shows no progress by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks of a terminal's user.
const REFRESH: Duration = Duration::from_millis(100);

pub(super) fn copy(client: &Client, args: &CpArgs) -> Result<(), Error> {
    match (Place::parse(&args.from), Place::parse(&args.to)) {
        (Place::Here(from), Place::Nodes { nodes, path }) => to_nodes(client, &from, &nodes, &path, args.progress),
        (Place::Nodes { nodes, path }, Place::Here(to)) => from_node(client, &nodes, &path, &to, args.progress),
        (Place::Here(_), Place::Here(_)) => {
            bail!("neither {:?} nor {:?} is on a node: that is written NODE:PATH", args.from, args.to)
        }
        (Place::Nodes { .. }, Place::Nodes { .. }) => {
            bail!("{:?} and {:?} are both on nodes: copy it here first, and then there", args.from, args.to)
        }
    }
}

fn from_node(client: &Client, set: &str, path: &str, to: &Path, progress: bool) -> Result<(), Error> {
    let nodes = members(client, set)?;
    let [node] = &nodes[..] else {
        bail!("{set} are {} nodes, and their files would have one name here: copy from one of them", nodes.len());
    };
    expect_booted(node)?;
    // The node may belong to anybody: it does not choose what is written here.
    let asked_for = Path::new(path).file_name();
    if asked_for.is_none() && to.is_dir() {
        bail!("{path:?} has no name of its own: say what it is to be called in {}", to.display());
    }
    let login = Login::open(client)?;
    let interrupt = Interrupt::watch()?;
    let mut command = login.agent(&node.ip, "walt-send-files", Some(path));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut remote = Remote::start(command, &interrupt)?;
    let stdout = remote.child.stdout.take().context("ssh has no output")?;
    let mut meter = Meter::new(progress);
    let received = tree::receive(BufReader::with_capacity(PIECE, stdout), to, asked_for, Keep::Permissions, |news| {
        meter.see(news)
    });
    meter.end();
    // What the node says of a failure comes before what we make of it.
    let complaint = remote.end(&interrupt, received.is_err())?;
    let failed = |cause: Error| cause.context(format!("{}:{path} is not copied, or not all of it", node.name));
    match (complaint, received) {
        (Some(complaint), _) => Err(failed(anyhow!(complaint))),
        (None, received) => received.map(drop).map_err(|error| failed(error.into())),
    }
}

fn to_nodes(client: &Client, from: &Path, set: &str, path: &str, progress: bool) -> Result<(), Error> {
    let nodes = members(client, set)?;
    let metadata = std::fs::metadata(from).with_context(|| format!("can not read {}", from.display()))?;
    // A slash says that it must be a directory there, and `cp` wants none for files.
    let path = if metadata.is_dir() && path.len() > 1 { path.trim_end_matches('/') } else { path };
    if let [node] = &nodes[..] {
        expect_booted(node)?;
    }
    let login = Login::open(client)?;
    let interrupt = Interrupt::watch()?;
    let meter = Mutex::new(Meter::new(progress));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..nodes.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some(node) = nodes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = to_node(&login, &interrupt, from, node, path, &meter);
                    if let (Err(error), Ok(mut failures)) = (done, failures.lock()) {
                        failures.push((node, error));
                    }
                }
            });
        }
    });
    if let Ok(mut meter) = meter.lock() {
        meter.end();
    }
    let mut failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match (&nodes[..], failures.pop()) {
        (_, None) => Ok(()),
        ([_], Some((_, error))) => Err(error),
        (_, Some(last)) => {
            failures.push(last);
            for (_, error) in &failures {
                let _ = report::failure(error);
            }
            bail!("{} of {} nodes have not got it", failures.len(), nodes.len())
        }
    }
}

fn to_node(
    login: &Login,
    interrupt: &Interrupt,
    from: &Path,
    node: &Node,
    path: &str,
    meter: &Mutex<Meter>,
) -> Result<(), Error> {
    if interrupt.code().is_some() {
        bail!("{}: not begun", node.name);
    }
    expect_booted(node)?;
    let mut command = login.agent(&node.ip, "walt-receive-files", Some(path));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut remote = Remote::start(command, interrupt)?;
    let stdin = remote.child.stdin.take().context("ssh has no input")?;
    let mut out = BufWriter::with_capacity(PIECE, stdin);
    let news = |news| {
        if let Ok(mut meter) = meter.lock() {
            meter.see(news);
        }
    };
    let sent = tree::send(from, &mut out, news);
    let sent = sent.and_then(|sent| out.flush().map(|()| sent).map_err(tree::SendError::Write));
    // Closed: the node sees the end, or that there is none.
    drop(out.into_parts());
    let complaint = remote.end(interrupt, false)?;
    let failed =
        |cause: Error| cause.context(format!("{} is not copied to {}, or not all of it", from.display(), node.name));
    match (complaint, sent) {
        // A receiver that gives up says why; that it takes no more is what follows.
        (Some(complaint), Ok(_) | Err(tree::SendError::Write(_))) => Err(failed(anyhow!(complaint))),
        (_, Err(error)) => Err(failed(error.into())),
        (None, Ok(sent)) if sent.left_out.is_empty() => Ok(()),
        (None, Ok(sent)) => {
            sent.left_out.iter().for_each(|what| report::warn(format_args!("left out: {what}")));
            bail!("{} is on {}, but for {} that were left out", from.display(), node.name, sent.left_out.len())
        }
    }
}

/// A program on a node, and what it complains of.
struct Remote {
    child: Child,
    guard: Guard,
    stderr: std::thread::JoinHandle<String>,
}

impl Remote {
    fn start(mut command: Command, interrupt: &Interrupt) -> Result<Self, Error> {
        let mut child = start(&mut command)?;
        let guard = interrupt.guard(&child);
        let mut stderr = child.stderr.take().context("ssh has no error output")?;
        let read = move || {
            let mut text = Vec::new();
            let _ = (&mut stderr).take(MAX_COMPLAINT).read_to_end(&mut text);
            // What comes beyond that must not hold the node up.
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&text).trim().replace(|c: char| c.is_control() && c != '\n', "?")
        };
        Ok(Self { child, guard, stderr: std::thread::spawn(read) })
    }

    /// Waits for its end; what went wrong there, if something did. With `now` it need not be waited for.
    fn end(mut self, interrupt: &Interrupt, now: bool) -> Result<Option<String>, Error> {
        // One that has said why it failed is ending; one that sends on what we refuse is ended.
        let limit = now.then_some(Duration::from_secs(2));
        drop(self.guard);
        let ended = interrupt.wait(&mut self.child, limit)?;
        let said = self.stderr.join().unwrap_or_default();
        Ok(match ended {
            Ended::With(0) => None,
            Ended::With(code) if said.is_empty() => Some(format!("ssh, or the agent on the node, ended with {code}")),
            Ended::With(127) => Some(format!("{said} (was its image prepared by this server?)")),
            Ended::With(_) => Some(said),
            Ended::Late => None,
            Ended::Interrupted(_) => Some("interrupted".to_owned()),
        })
    }
}

/// Progress of one or several transfers.
struct Meter {
    shown: Shown,
    /// From the beginning, and without a terminal, too.
    always: bool,
    begun: Instant,
    last: Option<Instant>,
    done: u64,
    total: u64,
}

impl Meter {
    fn new(always: bool) -> Self {
        Self { shown: Shown::new(), always, begun: Instant::now(), last: None, done: 0, total: 0 }
    }

    fn see(&mut self, news: News) {
        match news {
            News::Total(bytes) => self.total = self.total.saturating_add(bytes),
            News::Bytes(bytes) => self.done += bytes,
        }
        let wanted = self.always || io::stderr().is_terminal() && self.begun.elapsed() > PATIENCE;
        if wanted && self.last.is_none_or(|last| last.elapsed() > REFRESH) {
            self.show();
        }
    }

    fn show(&mut self) {
        self.last = Some(Instant::now());
        // A standard error that can not be written is no reason to stop.
        let _ = self.shown.bytes(self.done, self.total);
    }

    fn end(&mut self) {
        if self.always || self.last.is_some() {
            self.show();
        }
        let _ = self.shown.close();
        if self.always && io::stdout().is_terminal() {
            let _ = say(format_args!("{} in {:.1} s", report::bytes(self.done), self.begun.elapsed().as_secs_f64()));
        }
    }
}
