//! The serial port of a machine: for those who look at it, and for the logs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::{broadcast, mpsc};

/// What is kept for those who come later, in bytes.
const SCROLL_BACK: usize = 64 * 1024;
/// Pieces of output that somebody who reads slowly may be behind.
const BEHIND: usize = 256;
/// Pieces of input that may wait for the machine.
const INPUT: usize = 64;
/// Longest line that is logged, in bytes; the rest of it follows as another.
const MAX_LINE: usize = 4096;

/// The console of one machine, which lives as long as the node, whether the machine runs or not.
#[derive(Debug)]
pub struct Console {
    shown: Mutex<Shown>,
    typed: (mpsc::Sender<Bytes>, tokio::sync::Mutex<mpsc::Receiver<Bytes>>),
}

#[derive(Debug)]
struct Shown {
    last: VecDeque<u8>,
    readers: broadcast::Sender<Bytes>,
    line: Line,
}

/// Somebody who looks at a console.
#[derive(Debug)]
pub struct Attached {
    /// What was shown before.
    pub scroll_back: Vec<u8>,
    output: broadcast::Receiver<Bytes>,
    input: mpsc::Sender<Bytes>,
}

/// What somebody who looks at a console hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Output.
    Bytes(Bytes),
    /// Output was lost: it came faster than it was read.
    Lost,
    /// The node is no more.
    Gone,
}

impl Default for Console {
    fn default() -> Self {
        let (typed, typing) = mpsc::channel(INPUT);
        let readers = broadcast::Sender::new(BEHIND);
        let shown = Shown { last: VecDeque::new(), readers, line: Line::default() };
        Self { shown: Mutex::new(shown), typed: (typed, tokio::sync::Mutex::new(typing)) }
    }
}

impl Console {
    /// From now on, with what was shown before.
    pub fn attach(&self) -> Attached {
        let shown = self.lock();
        let scroll_back = shown.last.iter().copied().collect();
        Attached { scroll_back, output: shown.readers.subscribe(), input: self.typed.0.clone() }
    }

    /// Takes output; gives back the lines that are complete now, without what only a terminal understands.
    pub(super) fn show(&self, bytes: &[u8]) -> Vec<String> {
        let mut shown = self.lock();
        let surplus = (shown.last.len() + bytes.len()).saturating_sub(SCROLL_BACK).min(shown.last.len());
        shown.last.drain(..surplus);
        shown.last.extend(&bytes[bytes.len().saturating_sub(SCROLL_BACK)..]);
        // Fails if nobody looks.
        let _ = shown.readers.send(Bytes::copy_from_slice(bytes));
        bytes.iter().filter_map(|byte| shown.line.take(*byte)).collect()
    }

    /// The next thing that somebody has typed. One task at a time may ask.
    pub(super) async fn typed(&self) -> Bytes {
        match self.typed.1.lock().await.recv().await {
            Some(bytes) => bytes,
            // The sender is in `self`, too.
            None => std::future::pending().await,
        }
    }

    /// Forgets what was typed while the machine was off.
    pub(super) async fn forget_typed(&self) {
        let mut typed = self.typed.1.lock().await;
        while typed.try_recv().is_ok() {}
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    /// What comes next.
    pub async fn next(&mut self) -> Heard {
        match self.output.recv().await {
            Ok(bytes) => Heard::Bytes(bytes),
            Err(broadcast::error::RecvError::Lagged(_)) => Heard::Lost,
            Err(broadcast::error::RecvError::Closed) => Heard::Gone,
        }
    }

    /// Where to type.
    pub fn input(&self) -> mpsc::Sender<Bytes> {
        self.input.clone()
    }
}

/// A line as it grows.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    state: Escape,
    /// A carriage return has come: unless the line ends here, it is written anew.
    returned: bool,
}

/// Where in an escape sequence (ECMA-48) the output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    No,
    /// After ESC.
    Begun,
    /// After ESC and an intermediate byte: one more follows, as in the choice of a character set.
    Intermediate,
    /// In a control sequence, `ESC [` to a final byte.
    Control,
    /// In a control string, `ESC ]` and others, to BEL or `ESC \`.
    String,
}

impl Line {
    fn take(&mut self, byte: u8) -> Option<String> {
        self.state = match (self.state, byte) {
            (Escape::No, 0x1b) | (Escape::String, 0x1b) => Escape::Begun,
            (Escape::No, _) => return self.character(byte),
            (Escape::Begun, b'[') => Escape::Control,
            (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => Escape::String,
            (Escape::Begun, 0x20..=0x2f) => Escape::Intermediate,
            (Escape::Control, 0x20..=0x3f) => Escape::Control,
            (Escape::String, 0x20..=0xff) => Escape::String,
            // A final byte, or something that can not be in a sequence.
            _ => Escape::No,
        };
        None
    }

    fn character(&mut self, byte: u8) -> Option<String> {
        match byte {
            b'\n' => return Some(self.end()),
            b'\r' => self.returned = true,
            0x08 => drop(self.text.pop()),
            b'\t' | 0x20..=0x7e | 0x80..=0xff => {
                if std::mem::take(&mut self.returned) {
                    self.text.clear();
                }
                self.text.push(byte);
            }
            _ => {}
        }
        (self.text.len() >= MAX_LINE).then(|| self.end())
    }

    fn end(&mut self) -> String {
        self.returned = false;
        let text = String::from_utf8_lossy(&self.text).trim_end().to_owned();
        self.text.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_free_of_what_only_terminals_understand() {
        for (shown, lines) in [
            ("Linux\r\nis up\r\n", &["Linux", "is up"][..]),
            ("\x1b[0;32m  OK  \x1b[0m] x\n", &["  OK  ] x"]),
            ("\x1b]0;title\x07a\x1b]2;t\x1b\\b\n", &["ab"]),
            ("\x1b(Bx\x1b=y\n", &["xy"]),
            ("10 %\r20 %\r30 %\r\n", &["30 %"]),
            ("ab\x08c\n", &["ac"]),
            ("\x00\x01x\n\n", &["x", ""]),
            ("unfinished", &[]),
        ] {
            assert_eq!(Console::default().show(shown.as_bytes()), lines, "{shown:?}");
        }
        let long = "x".repeat(MAX_LINE + 1) + "\n";
        assert_eq!(Console::default().show(long.as_bytes()), [&long[..MAX_LINE], "x"]);
    }

    #[tokio::test]
    async fn who_comes_late_sees_what_was_shown_and_who_is_slow_hears_of_it() {
        let console = Console::default();
        console.show(b"before ");
        let mut attached = console.attach();
        assert_eq!(attached.scroll_back, b"before ");
        console.show(b"after");
        assert_eq!(attached.next().await, Heard::Bytes(Bytes::from_static(b"after")));
        for _ in 0..=BEHIND {
            console.show(&[b'x'; 1024]);
        }
        assert_eq!(attached.next().await, Heard::Lost);
        let late = console.attach();
        assert_eq!(late.scroll_back, vec![b'x'; SCROLL_BACK]);
        console.show(&vec![b'y'; SCROLL_BACK + 7]);
        assert_eq!(console.attach().scroll_back, vec![b'y'; SCROLL_BACK]);
        drop(console);
        while attached.next().await != Heard::Gone {}
    }
}
