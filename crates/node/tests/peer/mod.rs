//! The other side, for the agent's programs: a server of the node protocol, and the program itself.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use wire::node::{Confirmed, Session, SessionEvent, Timestamps};

/// Longest that anything may take; the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The agent, called as `name`.
pub fn agent(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walt-node"));
    command.arg(name);
    command
}

/// A child that does not outlive its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that the agent prints, which must come in time.
pub fn first_line(output: ChildStdout) -> String {
    let (sender, line) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        sender.send(line)
    });
    line.recv_timeout(LIMIT).expect("the agent prints a line in time")
}

/// What a node said to the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Booted,
    KeepAlive,
    Opened(String, Timestamps),
    /// A line, and whether it had a time.
    Line(String, bool),
    Closed,
    /// The connection ended.
    End,
}

/// A server of the node protocol; each connection is followed, and reported line by line.
pub struct Server {
    pub address: SocketAddr,
    pub said: Receiver<Said>,
    connections: Receiver<TcpStream>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// As [`start`](Self::start), at a known place.
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, said) = channel();
        let (connected, connections) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let _ = connected.send(stream.try_clone().unwrap());
                let sender = sender.clone();
                thread::spawn(move || follow(stream, |said| drop(sender.send(said))));
            }
        });
        Self { address, said, connections }
    }

    /// The next thing that any node says.
    pub fn next(&self) -> Said {
        self.said.recv_timeout(LIMIT).expect("the agent says something in time")
    }

    /// The next connection that was made.
    pub fn connection(&self) -> TcpStream {
        self.connections.recv_timeout(LIMIT).expect("the agent connects in time")
    }
}

fn follow(mut stream: TcpStream, say: impl Fn(Said)) {
    let mut session = Session::default();
    let (mut count, mut confirms) = (0, false);
    for line in BufReader::new(stream.try_clone().unwrap()).split(b'\n') {
        let Ok(line) = line else { break };
        let booted = session == Session::Notified;
        match session.line(&line).expect("the agent speaks the protocol") {
            SessionEvent::Nothing if booted => say(Said::KeepAlive),
            SessionEvent::Nothing => {}
            SessionEvent::Booted => {
                stream.write_all(b"OK\n").unwrap();
                say(Said::Booted);
            }
            SessionEvent::Opened(confirmed, name, timestamps) => {
                confirms = confirmed == Confirmed::Yes;
                say(Said::Opened(name.to_string(), timestamps));
            }
            SessionEvent::Line { timestamp, text } => {
                count += 1;
                if confirms {
                    stream.write_all(format!("{count}\n").as_bytes()).unwrap();
                }
                say(Said::Line(String::from_utf8_lossy(text).into_owned(), timestamp.is_some()));
            }
            SessionEvent::Closed => say(Said::Closed),
        }
    }
    say(Said::End);
}
