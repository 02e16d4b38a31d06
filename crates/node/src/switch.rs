//! Which switch the node hangs on: switches say it themselves by LLDP, each 30 s. It is heard in passing, without anything in
//! the image, and told to the server.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::Interface;
use sys::packet::Listener;
use wire::lldp::{ETHERTYPE, GROUP, Neighbour};
use wire::node::{Attachment, CLOSE, Confirmed, LLDP_STREAM, SERVER_PORT, Session, StreamName, Timestamps};

use crate::console::{Level, say};

const NAME: &str = "walt-net-service";

/// How often is looked for new interfaces.
const LOOK: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// What has not changed is told again after this time.
const AGAIN: Duration = Duration::from_secs(1800);
/// Whoever says something else all the time is not passed on more often than this.
const PAUSE: Duration = Duration::from_secs(5);
/// Interfaces that something is told of.
const MOST_INTERFACES: usize = 16;
/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest frame, in bytes.
const MAX_FRAME: usize = 1518;

/// Begins to listen, beside whatever else is done.
pub(crate) fn start(server: Ipv4Addr) {
    let listen = move || {
        let Err(error) = listen(SocketAddr::from((server, SERVER_PORT)));
        say(Level::Error, NAME, &format!("what switches say is not heard any more: {error}"));
    };
    if let Err(error) = thread::Builder::new().stack_size(64 * 1024).spawn(listen) {
        say(Level::Error, NAME, &format!("start a thread: {error}"));
    }
}

fn listen(server: SocketAddr) -> io::Result<std::convert::Infallible> {
    let listener = Listener::open(ETHERTYPE)?;
    let mut joined = Vec::new();
    let mut told: BTreeMap<u32, (Attachment, Instant)> = BTreeMap::new();
    loop {
        let interfaces = Interface::all().unwrap_or_default();
        join(&listener, &interfaces, &mut joined);
        match poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut frame = [0; MAX_FRAME];
        let (payload, index) = match listener.receive(&mut frame) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => {
                // An interface has gone down; another one may be up.
                thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(attachment) = heard(&interfaces, index, payload) else { continue };
        let known = told.get(&index).is_some_and(|(old, at)| *old == attachment && at.elapsed() < AGAIN);
        if known || (told.len() >= MOST_INTERFACES && !told.contains_key(&index)) {
            continue;
        }
        // If the server is not there, the switch will say it again.
        if tell(server, &attachment).is_ok() {
            told.insert(index, (attachment, Instant::now()));
        }
        thread::sleep(PAUSE);
    }
}

fn heard(interfaces: &[Interface], index: u32, payload: &[u8]) -> Option<Attachment> {
    let interface = interfaces.iter().find(|interface| interface.index == index)?;
    Attachment::heard(interface.mac, &Neighbour::parse(payload).ok()?)
}

fn join(listener: &Listener, interfaces: &[Interface], joined: &mut Vec<u32>) {
    joined.retain(|index| interfaces.iter().any(|interface| interface.index == *index));
    for interface in interfaces {
        if !joined.contains(&interface.index) && listener.join(interface.index, GROUP).is_ok() {
            joined.push(interface.index);
        }
    }
}

fn tell(server: SocketAddr, attachment: &Attachment) -> io::Result<()> {
    let name = StreamName::parse(LLDP_STREAM).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let opening = Session::open_stream(Confirmed::No, &name, Timestamps::None);
    stream.write_all(format!("{opening}{attachment}\n{CLOSE}\n").as_bytes())
}
