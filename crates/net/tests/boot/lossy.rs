//! A network that loses packets: a relay between one TFTP client and the server.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::site::CLIENT;

pub(crate) struct Lossy {
    /// What the client takes for the server.
    pub(crate) address: SocketAddrV4,
    lost: Arc<AtomicU64>,
}

impl Lossy {
    /// Loses `permille` of the packets, requests excepted (clients give up on those too soon).
    pub(crate) fn start(server: SocketAddrV4, permille: u64) -> Self {
        let front = UdpSocket::bind((CLIENT, 0)).unwrap();
        let SocketAddr::V4(address) = front.local_addr().unwrap() else { unreachable!() };
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        thread::spawn(move || relay(&front, server, permille, &counter));
        Self { address, lost }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Ends when the client has been silent for a while.
fn relay(front: &UdpSocket, server: SocketAddrV4, permille: u64, lost: &Arc<AtomicU64>) {
    let mut buffer = vec![0; 65536];
    let (len, client) = front.recv_from(&mut buffer).unwrap();
    // One port towards the server, one towards the client, as the server itself would have.
    let back = UdpSocket::bind((CLIENT, 0)).unwrap();
    let side = UdpSocket::bind((CLIENT, 0)).unwrap();
    side.connect(client).unwrap();
    back.send_to(&buffer[..len], server).unwrap();
    let (len, transfer) = back.recv_from(&mut buffer).unwrap();
    back.connect(transfer).unwrap();
    side.send(&buffer[..len]).unwrap();
    let pass = |from: &UdpSocket, to: &UdpSocket, mut random: u64| {
        from.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut buffer = vec![0; 65536];
        while let Ok(len) = from.recv(&mut buffer) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random % 1000 < permille {
                lost.fetch_add(1, Ordering::Relaxed);
            } else if to.send(&buffer[..len]).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(&side, &back, 0x1234_5678_9abc_def1));
        pass(&back, &side, 0xfedc_ba98_7654_3211);
    });
}
