//! One transfer, without I/O: (state, message, now) to action.

use std::time::{Duration, Instant};

use wire::tftp::{DEFAULT_BLKSIZE, Options};

/// Largest window that is agreed to, in blocks.
pub const MAX_WINDOW: u16 = 64;
/// Largest window that is agreed to, in bytes: bounds what a session holds in memory.
pub const MAX_WINDOW_BYTES: u64 = 1 << 20;

/// Wait before the first retransmission, unless the client says otherwise (RFC 2349 `timeout`). Never
/// short: a Raspberry Pi 4 hangs on DATA that it gets twice.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait before a retransmission, unless the client's own is longer.
const MAX_TIMEOUT: Duration = Duration::from_secs(8);
/// Most retransmissions without a sign of life before giving up.
const MAX_RETRIES: u32 = 5;
/// With long waits of the client's own choice, fewer retransmissions take about this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shortest and first wait before a window is sent again on the word of a client that saw a gap.
const MIN_RECOVERY: Duration = Duration::from_millis(5);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing until the next packet or the deadline.
    Wait,
    /// Send the agreed options.
    SendOptions,
    /// Send blocks `first..first + count`; counted from 1, the number on the wire is `block as u16`.
    SendBlocks {
        /// First block.
        first: u64,
        /// Number of blocks, at least 1.
        count: u16,
    },
    /// The transfer is over.
    Finish(Outcome),
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq, Copy)]
pub enum Outcome {
    /// The last block was acknowledged.
    Complete,
    /// The client sent ERROR before any data: it wanted the size alone, as UEFI does.
    SizeOnly,
    /// The client sent ERROR.
    Aborted,
    /// The client fell silent after everything had been sent: it may well have all of it.
    LastAckMissing,
    /// The client fell silent.
    TimedOut,
    /// The same client port asked for something else.
    Superseded,
}

/// State of one transfer.
#[derive(Debug)]
pub struct Session {
    agreed: Options,
    blksize: u64,
    window: u64,
    /// Number of blocks: the last one is shorter than `blksize`, possibly empty.
    blocks: u64,
    /// First block that is not acknowledged; 0 while the options are not.
    base: u64,
    /// Last block that was sent.
    sent: u64,
    /// When the last packet of the current window went out.
    sent_at: Instant,
    deadline: Instant,
    timeout: Duration,
    retries: u32,
    /// The window was sent whole, once, and nothing of it is acknowledged.
    in_step: bool,
    /// The request came again since our last answer to it.
    asked_again: bool,
    /// Smoothed time from a window to its acknowledgement.
    round_trip: Option<Duration>,
}

impl Outcome {
    /// Why the client has not got what it asked for.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Complete | Self::SizeOnly => None,
            Self::Aborted => Some("aborted by the client"),
            Self::LastAckMissing => Some("no acknowledgement of the last block"),
            Self::TimedOut => Some("timeout"),
            Self::Superseded => Some("the client asked again"),
        }
    }
}

impl Session {
    /// Begins the transfer of `size` bytes; `wished` are the options of the request.
    pub fn start(wished: &Options, size: u64, now: Instant) -> (Self, Action) {
        let agreed = agree(wished, size);
        let blksize = u64::from(agreed.blksize.unwrap_or(DEFAULT_BLKSIZE));
        let timeout = agreed.timeout.map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
        let mut session = Self {
            blksize,
            window: u64::from(agreed.windowsize.unwrap_or(1)),
            // RFC 1350 §2: a block of less than full size ends the transfer, so a multiple needs an empty one.
            blocks: size / blksize + 1,
            base: 0,
            sent: 0,
            sent_at: now,
            deadline: now + timeout,
            timeout,
            retries: 0,
            in_step: true,
            asked_again: false,
            round_trip: None,
            agreed,
        };
        // RFC 2347: without options to agree on, the answer is the first block.
        let action = if session.agreed.is_empty() {
            session.base = 1;
            session.send_window(now)
        } else {
            Action::SendOptions
        };
        (session, action)
    }

    /// The options of the OACK.
    pub fn agreed(&self) -> Options {
        self.agreed
    }

    /// Bytes in a full block.
    pub fn blksize(&self) -> u64 {
        self.blksize
    }

    /// Bytes in a full window.
    pub fn window_bytes(&self) -> u64 {
        self.blksize * self.window
    }

    /// Bytes that are surely there, for a file of `size` bytes.
    pub fn acknowledged(&self, size: u64) -> u64 {
        (self.base.saturating_sub(1) * self.blksize).min(size)
    }

    /// When [`on_deadline`](Self::on_deadline) is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// True until the client has acknowledged anything.
    pub fn is_opening(&self) -> bool {
        self.base == 0 || (self.base == 1 && self.agreed.is_empty())
    }

    /// The client acknowledged this block.
    pub fn on_ack(&mut self, block: u16, now: Instant) -> Action {
        if self.base == 0 {
            // RFC 2347: ACK 0 accepts the options. Anything else belongs to an earlier transfer.
            if block != 0 {
                return Action::Wait;
            }
            self.measure(now);
            self.base = 1;
            self.asked_again = false;
            return self.send_window(now);
        }
        // Block numbers roll over; at most MAX_WINDOW of them are open, so the distance is unambiguous.
        let below = self.base - 1;
        let ahead = u64::from(block.wrapping_sub(below as u16));
        if below + ahead > self.sent {
            return Action::Wait;
        }
        if ahead > 0 {
            self.base += ahead;
            self.retries = 0;
            self.asked_again = false;
            if self.base > self.blocks {
                return Action::Finish(Outcome::Complete);
            }
        }
        if self.base > self.sent {
            self.measure(now);
            return self.send_window(now);
        }
        // RFC 1123 §4.2.3.1 (Sorcerer's apprentice): in lock-step, an acknowledgement that comes
        // twice must not bring the block twice.
        if self.window == 1 {
            return Action::Wait;
        }
        self.on_partial_ack(now)
    }

    /// RFC 7440 §4: an acknowledgement inside of the window says that the block after it was lost, and
    /// that the window goes on from there. But clients send one for each block that they then see out
    /// of order, some for every block, and a client that had the rest of the window falls out of step
    /// for the whole file if it gets it again. So the window slides by what was acknowledged, and goes
    /// out again only if nothing better comes in the time that the answer takes.
    fn on_partial_ack(&mut self, now: Instant) -> Action {
        let last = (self.base + self.window - 1).min(self.blocks);
        let action = if last > self.sent {
            let first = std::mem::replace(&mut self.sent, last) + 1;
            self.sent_now(now);
            // At most a window.
            Action::SendBlocks { first, count: (last - first + 1) as u16 }
        } else {
            Action::Wait
        };
        self.in_step = false;
        self.deadline = self.deadline.min(self.sent_at + self.recovery());
        action
    }

    /// The client sent ERROR: over, and nothing is answered.
    pub fn on_error(&mut self) -> Action {
        Action::Finish(if self.base == 0 && self.agreed.tsize.is_some() { Outcome::SizeOnly } else { Outcome::Aborted })
    }

    /// The deadline has passed.
    pub fn on_deadline(&mut self, now: Instant) -> Action {
        if now < self.deadline {
            return Action::Wait;
        }
        if now.duration_since(self.sent_at) < self.timeout {
            // The early deadline of a gap: no silence, so it counts as no retry.
            let action = self.send_window(now);
            self.in_step = false;
            return action;
        }
        if self.retries >= self.max_retries() {
            let all_sent = self.base > 0 && self.sent == self.blocks;
            return Action::Finish(if all_sent { Outcome::LastAckMissing } else { Outcome::TimedOut });
        }
        self.retries += 1;
        if self.base == 0 {
            self.sent_now(now);
            return Action::SendOptions;
        }
        self.send_window(now)
    }

    /// The client sent its request again, though it has been answered, `pause` or longer ago if our
    /// answer was lost. Answering from here, not from a new session, keeps to one port, and DATA comes
    /// once.
    pub fn on_repeat(&mut self, now: Instant, pause: Duration) -> Action {
        if now.duration_since(self.sent_at) < pause {
            self.asked_again = true;
            return Action::Wait;
        }
        self.asked_again = false;
        if self.base == 0 {
            self.sent_now(now);
            return Action::SendOptions;
        }
        self.send_window(now)
    }

    /// The client ended this transfer by ERROR, and had asked again before we saw that: UEFI sends both
    /// at once, to two ports, and nothing keeps their order. It waits for an answer from a new session.
    pub fn wants_another(&self, outcome: Outcome) -> bool {
        self.asked_again && matches!(outcome, Outcome::SizeOnly | Outcome::Aborted)
    }

    /// The datagrams of the last action are out only now: reading the file may have taken a while.
    pub fn on_sent(&mut self, now: Instant) {
        self.deadline += now.duration_since(self.sent_at);
        self.sent_at = now;
    }

    fn sent_now(&mut self, now: Instant) {
        self.sent_at = now;
        let backed_off = self.timeout.saturating_mul(1 << self.retries.min(MAX_RETRIES));
        self.deadline = now + backed_off.min(MAX_TIMEOUT.max(self.timeout));
    }

    fn send_window(&mut self, now: Instant) -> Action {
        let count = self.window.min(self.blocks - self.base + 1);
        self.sent = self.base + count - 1;
        self.in_step = true;
        self.sent_now(now);
        // `window` came from a u16.
        Action::SendBlocks { first: self.base, count: count as u16 }
    }

    /// RFC 6298's smoothing; a window that was sent twice says nothing (Karn's rule).
    fn measure(&mut self, now: Instant) {
        if self.retries == 0 && self.in_step {
            let sample = now.duration_since(self.sent_at);
            self.round_trip = Some(self.round_trip.map_or(sample, |smooth| (smooth * 7 + sample) / 8));
        }
    }

    fn max_retries(&self) -> u32 {
        let fitting = PATIENCE.as_secs() / self.timeout.as_secs().max(1);
        u32::try_from(fitting).unwrap_or(MAX_RETRIES).clamp(1, MAX_RETRIES)
    }

    fn recovery(&self) -> Duration {
        self.round_trip.map_or(self.timeout / 4, |smooth| (smooth * 2).max(MIN_RECOVERY)).min(self.timeout)
    }
}

/// RFC 2347: the answer holds the options that were asked for and that we know, no others.
fn agree(wished: &Options, size: u64) -> Options {
    let blksize = wished.blksize;
    let in_bytes = MAX_WINDOW_BYTES / u64::from(blksize.unwrap_or(DEFAULT_BLKSIZE));
    // RFC 7440 §3: the server may answer with fewer blocks than the client wished.
    let most = u16::try_from(in_bytes).unwrap_or(u16::MAX).clamp(1, MAX_WINDOW);
    Options {
        blksize,
        timeout: wished.timeout,
        tsize: wished.tsize.map(|_| size),
        windowsize: wished.windowsize.map(|wish| wish.min(most)),
    }
}

#[cfg(test)]
mod tests;
