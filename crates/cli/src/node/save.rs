//! `walt node save`: the node tells what has changed, and the server makes an image of it.

use std::io::{self, IsTerminal, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, bail};
use api::Node;

use super::args::SaveArgs;
use super::interrupt::{Ended, Guard, Interrupt};
use super::login::{Login, expect_booted, start};
use crate::http::{Client, Sent, target};
use crate::progress::{self, Shown};
use crate::report::say;

/// Between two looks of a terminal's user.
const REFRESH: Duration = Duration::from_millis(100);

pub(super) fn save(client: &Client, args: &SaveArgs) -> Result<(), Error> {
    let node: Node = client.get(&target(&["v1", "nodes", &args.node], &[]))?;
    expect_booted(&node)?;
    let login = Login::open(client)?;
    let interrupt = Interrupt::watch()?;
    let mut command = login.agent(&node.ip, "walt-changes", None);
    let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = child.stdout.take().context("ssh has no output")?;
    let guard = Some(interrupt.guard(&child));
    let mut changes =
        Changes { child, guard, stdout, interrupt, shown: Shown::new(), bytes: 0, last: Instant::now(), failed: None };
    let mut query = vec![("node", node.mac.as_str()), ("name", args.image.as_str())];
    if args.force {
        query.push(("force", "true"));
    }
    let answer = client.send("POST", &target(&["v1", "images", "save"], &query), Sent::Stream(&mut changes));
    let _ = changes.shown.close();
    // The server has stopped listening, or the node has stopped sending.
    changes.guard = None;
    let _ = changes.child.kill();
    let _ = changes.child.wait();
    if let Some(why) = changes.failed {
        bail!("{} is not saved: {why}", node.name);
    }
    say(progress::follow(answer?)?)
}

/// What the node sends. Its end counts only if the program there says that it was all.
struct Changes {
    child: Child,
    guard: Option<Guard>,
    stdout: ChildStdout,
    interrupt: Interrupt,
    shown: Shown,
    bytes: u64,
    last: Instant,
    failed: Option<String>,
}

impl Read for Changes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(buf)?;
        self.bytes += read as u64;
        if io::stderr().is_terminal() && self.last.elapsed() > REFRESH {
            self.last = Instant::now();
            let _ = self.shown.bytes(self.bytes, 0);
        }
        if read > 0 {
            return Ok(read);
        }
        self.guard = None;
        let failed = match self.interrupt.wait(&mut self.child, None) {
            Ok(Ended::With(0)) => return Ok(0),
            Ok(Ended::With(code)) => format!("its changes did not come whole (exit code {code})"),
            Ok(Ended::Interrupted(_)) => "interrupted".to_owned(),
            Ok(Ended::Late) => "it took too long".to_owned(),
            Err(error) => error.to_string(),
        };
        self.failed = Some(failed.clone());
        // The request breaks off, so that the server does not take a part for the whole.
        Err(io::Error::other(failed))
    }
}
