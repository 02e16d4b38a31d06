//! SNTP server (RFC 4330 §6): gives nodes the time of this machine.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sys::clock::ClockState;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use wire::sntp::{Clock, Leap, Packet};

/// Stratum when the system clock is kept right by somebody: the kernel does not say how far away the
/// reference is, so we claim no more than any real server would.
const STRATUM_SYNCHRONISED: u8 = 5;
/// Stratum when it is not: nodes still agree with each other and with us, and whoever knows better wins
/// (the usual number for a local clock).
const STRATUM_LOCAL: u8 = 10;
/// About 1 µs: what clock_gettime and a datagram's way through the kernel allow.
const PRECISION: i8 = -20;
/// How long a reading of the clock's state is good: it changes over minutes.
const STATE_LIFE: Duration = Duration::from_secs(1);

/// What the server has seen since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams received.
    pub packets: AtomicU64,
    /// Datagrams that are no NTP packet, or no client's.
    pub malformed: AtomicU64,
    /// Answers sent.
    pub answered: AtomicU64,
}

/// The listening socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for SNTP on {address}")]
pub struct BindError {
    /// Address that was asked for.
    pub address: SocketAddrV4,
    /// Cause.
    #[source]
    pub source: io::Error,
}

/// The SNTP server, bound to its address.
#[derive(Debug)]
pub struct Server {
    socket: UdpSocket,
    address: SocketAddrV4,
    counters: Arc<Counters>,
}

impl Server {
    /// Opens the listening socket (port 123, normally): needs the privilege. Must be called within a
    /// Tokio runtime.
    pub fn bind(listen: SocketAddrV4) -> Result<Self, BindError> {
        let open = || {
            let socket = std::net::UdpSocket::bind(listen)?;
            sys::clock::enable_timestamps(&socket)?;
            socket.set_nonblocking(true)?;
            let port = socket.local_addr()?.port();
            Ok((UdpSocket::from_std(socket)?, SocketAddrV4::new(*listen.ip(), port)))
        };
        let (socket, address) = open().map_err(|source| BindError { address: listen, source })?;
        Ok(Self { socket, address, counters: Arc::default() })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Answers until dropped.
    pub async fn run(self) -> io::Result<Infallible> {
        // An NTP packet with authenticator is longer; what we read stands first in it.
        let mut buffer = [0; 128];
        let mut clock = (Instant::now(), current_clock());
        loop {
            let receive = || sys::clock::receive_stamped(self.socket.as_fd(), &mut buffer);
            let received = self.socket.async_io(Interest::READABLE, receive).await;
            let stamped = match received {
                Ok(stamped) => stamped,
                // What an earlier answer met on its way is reported here.
                Err(error) if crate::tftp::is_transient(&error) => continue,
                Err(error) => return Err(error),
            };
            count(&self.counters.packets);
            if clock.0.elapsed() > STATE_LIFE {
                clock = (Instant::now(), current_clock());
            }
            // The kernel's stamp leaves out the time that this task waited for its turn.
            let arrived = stamped.arrived.map_or_else(now, nanos);
            let request = Packet::parse(&buffer[..stamped.len]).ok();
            let Some(answer) = request.and_then(|request| request.answer(&clock.1, arrived, now())) else {
                count(&self.counters.malformed);
                continue;
            };
            // Lost if the send buffer is full, as on the network; the client asks again.
            if self.socket.try_send_to(&answer.encode(), stamped.peer.into()).is_ok() {
                count(&self.counters.answered);
            }
        }
    }
}

fn current_clock() -> Clock {
    let state =
        sys::clock::state().unwrap_or(ClockState { synchronised: false, leap_second: None, max_error: Duration::ZERO });
    describe(&state, now())
}

/// What to say of a clock in this state.
fn describe(state: &ClockState, now: i64) -> Clock {
    Clock {
        leap: match state.leap_second {
            None => Leap::None,
            Some(true) => Leap::Insert,
            Some(false) => Leap::Delete,
        },
        stratum: if state.synchronised { STRATUM_SYNCHRONISED } else { STRATUM_LOCAL },
        precision: PRECISION,
        root_delay: 0,
        // An unsynchronised clock is its own reference: there is no error to speak of, and clients
        // (chrony: 3 s) drop a server that claims the kernel's 16 s.
        root_dispersion: if state.synchronised { short_format(state.max_error) } else { 0 },
        // RFC 4330 §4: LOCL is an uncalibrated local clock; else the address of the reference, which is
        // a daemon of this very machine.
        reference_id: if state.synchronised { [127, 0, 0, 1] } else { *b"LOCL" },
        reference: now,
    }
}

/// RFC 5905 §6: 16 bits of seconds, 16 of fraction.
fn short_format(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
}

fn now() -> i64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4330_section_4_reference_by_the_state_of_the_clock() {
        let mut state = ClockState { synchronised: false, leap_second: None, max_error: Duration::from_secs(16) };
        let local = describe(&state, 7);
        assert_eq!((local.stratum, &local.reference_id, local.root_dispersion), (10, b"LOCL", 0));
        assert_eq!((local.leap, local.reference), (Leap::None, 7));
        state = ClockState { synchronised: true, leap_second: Some(true), max_error: Duration::from_millis(250) };
        let kept = describe(&state, 7);
        assert_eq!((kept.stratum, kept.reference_id, kept.root_dispersion), (5, [127, 0, 0, 1], 0x4000));
        assert_eq!(kept.leap, Leap::Insert);
        state.leap_second = Some(false);
        assert_eq!(describe(&state, 7).leap, Leap::Delete);
    }
}
