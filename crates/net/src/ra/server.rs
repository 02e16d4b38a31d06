//! The socket around it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sys::Interface;
use sys::icmp6::RouterSocket;
use tokio::io::unix::AsyncFd;

use super::{ADVERTISEMENT, RateLimit, Solicitation};
use crate::readiness;

/// A rack that is switched on at once gets its answers at once; a flood gets a thousand a second.
const BURST: u32 = 1024;
const INTERVAL: Duration = Duration::from_millis(1);

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Solicitations received.
    pub packets: AtomicU64,
    /// Of these, not valid.
    pub malformed: AtomicU64,
    /// Advertisements sent.
    pub advertisements: AtomicU64,
    /// Solicitations left unanswered because too many came.
    pub limited: AtomicU64,
    /// Advertisements that the kernel did not take.
    pub send_failures: AtomicU64,
}

/// IPv6 is not to be had on this interface. Nodes boot all the same, each some seconds later: log it and go on.
#[derive(Debug, thiserror::Error)]
#[error("listen for router solicitations on {interface} (is IPv6 off? iPXE will wait 13 s at each boot)")]
pub struct BindError {
    /// Name of the interface.
    pub interface: String,
    /// Cause.
    #[source]
    pub cause: io::Error,
}

/// Answers router solicitations on one interface.
#[derive(Debug)]
pub struct Server {
    socket: AsyncFd<RouterSocket>,
    interface: String,
    counters: Arc<Counters>,
}

impl Server {
    /// Opens the raw socket. Needs CAP_NET_RAW, and a tokio runtime around it.
    ///
    /// # Errors
    /// The socket can't be had, or IPv6 is off.
    pub fn bind(interface: &Interface) -> Result<Self, BindError> {
        let socket = RouterSocket::open(&interface.name, interface.index)
            .and_then(readiness::watch)
            .map_err(|cause| BindError { interface: interface.name.clone(), cause })?;
        Ok(Self { socket, interface: interface.name.clone(), counters: Arc::default() })
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// The kernel takes the socket away (the interface is removed).
    pub async fn run(self) -> io::Result<Infallible> {
        let mut limit = RateLimit::new(BURST, INTERVAL, Instant::now());
        let mut failing = false;
        // What follows the header of a solicitation is of no use to us, but must be there to be validated.
        let mut buffer = [0; 1500];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = match self.socket.get_ref().receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NetworkDown) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            count(&self.counters.packets);
            let Ok(solicitation) = Solicitation::parse(received.message, received.source, received.hop_limit) else {
                count(&self.counters.malformed);
                continue;
            };
            if !limit.take(Instant::now()) {
                count(&self.counters.limited);
                continue;
            }
            let sent = self.socket.get_ref().send(solicitation.reply_to(), &ADVERTISEMENT);
            self.account(&mut failing, sent);
        }
    }

    /// Says once that sending fails, and once that it works again.
    fn account(&self, failing: &mut bool, sent: io::Result<()>) {
        match sent {
            Ok(()) => {
                count(&self.counters.advertisements);
                *failing = false;
            }
            Err(error) => {
                count(&self.counters.send_failures);
                if !std::mem::replace(failing, true) {
                    tracing::warn!(
                        interface = self.interface,
                        %error,
                        "can't send router advertisements (no link-local address?): iPXE will wait 13 s at each boot"
                    );
                }
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
