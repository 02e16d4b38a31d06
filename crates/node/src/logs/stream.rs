//! A log stream that outlasts a short absence of the server: lines are kept until the server has confirmed them.
//!
//! A thread of its own sends them, so that whoever writes is not held up by a server that is away. Memory is bounded:
//! when it is full and the server is there, the writer waits; when the server is away, the oldest lines are dropped, counted,
//! and told of.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wire::node::{CLOSE, Confirmed, SERVER_PORT, Session, StreamName, Timestamps};

use crate::failure::Failure;
use crate::settings::Settings;

/// Memory for lines that are not confirmed yet, in bytes.
const MOST_BYTES: usize = 8 << 20;
/// What is sent at once, in bytes.
const PIECE: usize = 64 * 1024;
/// Longest wait for a connection, or for a server to take what is sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(300);

/// A log stream to the server.
pub(crate) struct LogStream {
    shared: Arc<Shared>,
    what: String,
    patience: Duration,
}

/// Where lines go, and how.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    /// The server, or the node's own.
    pub(super) server: Option<SocketAddr>,
    /// Longest that the server may be away when all is written.
    pub(super) patience: Duration,
    /// Whether lines have times in front.
    pub(super) timestamps: Timestamps,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Lines that are not confirmed, each with its newline.
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many of them were sent on the connection that there is.
    sent: usize,
    /// Number of the connection that there is; `None` while there is none.
    connection: Option<u64>,
    connections: u64,
    /// Nothing more is written.
    ended: bool,
    dropped: u64,
    /// Why there is no connection.
    trouble: String,
    /// Since when nothing has gone on: no connection, no confirmation.
    stalled_since: Option<Instant>,
}

impl LogStream {
    /// Begins a stream; the server need not be there yet.
    ///
    /// # Errors
    /// The name is none, or nothing says where the server is.
    pub(super) fn open(to: &Destination, stream: &str) -> Result<Self, Failure> {
        let name = StreamName::parse(stream).map_err(|error| Failure::new(error.to_string()))?;
        let server = match to.server {
            Some(server) => server,
            None => SocketAddr::from((Settings::read()?.server, SERVER_PORT)),
        };
        let shared = Arc::new(Shared::default());
        let opening = Session::open_stream(Confirmed::Yes, &name, to.timestamps);
        let of_thread = shared.clone();
        thread::spawn(move || of_thread.send(server, &opening));
        Ok(Self { shared, what: format!("log stream {name} on {server}"), patience: to.patience })
    }

    /// Takes a line, with its time if the stream has times; it has no newline in it. Waits while the server is there but
    /// does not follow.
    pub(super) fn push(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let mut state = self.shared.lock();
        while state.bytes + line.len() > MOST_BYTES && !state.lines.is_empty() {
            if state.connection.is_some() {
                state = self.shared.wait(state, PAUSE);
            } else if let Some(oldest) = state.lines.pop_front() {
                state.bytes -= oldest.len();
                state.dropped += 1;
            }
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends the stream once all lines are confirmed.
    ///
    /// # Errors
    /// Lines were dropped, or the server has been away for longer than it may: says how many lines are lost.
    pub(crate) fn close(self) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        state.ended = true;
        state.stalled_since = Some(Instant::now());
        self.shared.changed.notify_all();
        while !state.lines.is_empty() && state.stalled_since.is_none_or(|since| since.elapsed() < self.patience) {
            state = self.shared.wait(state, PAUSE);
        }
        let lost = state.dropped + state.lines.len() as u64;
        if lost == 0 {
            return Ok(());
        }
        let trouble = if state.trouble.is_empty() { "it does not confirm them" } else { &state.trouble };
        Err(Failure::new(format!(
            "{}: {lost} {} lost: {trouble}",
            self.what,
            if lost == 1 { "line is" } else { "lines are" }
        )))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Sends lines, over as many connections as it takes, until the stream has ended and all are confirmed.
    fn send(self: &Arc<Self>, server: SocketAddr, opening: &str) {
        loop {
            let outcome = connect(server, opening).and_then(|stream| self.send_on(stream));
            let mut state = self.lock();
            state.connection = None;
            if state.ended && state.lines.is_empty() {
                return;
            }
            state.trouble = match outcome {
                Ok(()) => "the connection was lost".to_owned(),
                Err(error) => error.to_string(),
            };
            state.stalled_since.get_or_insert_with(Instant::now);
            drop(state);
            self.changed.notify_all();
            thread::sleep(PAUSE);
        }
    }

    /// Sends on one connection, until it is lost or everything is confirmed.
    fn send_on(self: &Arc<Self>, mut stream: TcpStream) -> io::Result<()> {
        let number = {
            let mut state = self.lock();
            state.connections += 1;
            state.connection = Some(state.connections);
            state.sent = 0;
            state.connections
        };
        let (of_thread, answers) = (self.clone(), stream.try_clone()?);
        thread::spawn(move || of_thread.hear(answers, number));
        let mut closed = false;
        loop {
            let mut piece = Vec::new();
            {
                let mut state = self.lock();
                while state.connection == Some(number) && state.sent == state.lines.len() && (!state.ended || closed) {
                    if state.ended && state.lines.is_empty() {
                        return Ok(());
                    }
                    state = self.wait(state, PAUSE);
                }
                if state.connection != Some(number) {
                    return Ok(());
                }
                let State { lines, sent, .. } = &mut *state;
                for line in lines.iter().skip(*sent) {
                    if !piece.is_empty() && piece.len() + line.len() > PIECE {
                        break;
                    }
                    piece.extend_from_slice(line);
                    *sent += 1;
                }
                if piece.is_empty() {
                    piece.extend_from_slice(format!("{CLOSE}\n").as_bytes());
                    closed = true;
                }
            }
            stream.write_all(&piece)?;
        }
    }

    /// Hears how many lines the server has kept, until the connection ends.
    fn hear(&self, stream: TcpStream, number: u64) {
        let mut confirmed = 0;
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let Ok(count) = line.parse::<usize>() else { break };
            let mut state = self.lock();
            if state.connection != Some(number) {
                return;
            }
            // No more than were sent, whatever the server says.
            let more = count.saturating_sub(confirmed).min(state.sent);
            for line in state.lines.drain(..more).collect::<Vec<_>>() {
                state.bytes -= line.len();
            }
            state.sent -= more;
            confirmed += more;
            state.stalled_since = state.stalled_since.map(|_| Instant::now());
            state.trouble.clear();
            drop(state);
            self.changed.notify_all();
        }
        let mut state = self.lock();
        if state.connection == Some(number) {
            state.connection = None;
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn connect(server: SocketAddr, opening: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(opening.as_bytes())?;
    Ok(stream)
}
