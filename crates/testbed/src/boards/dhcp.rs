//! DHCP as a board speaks it: by whole frames, for it has no address yet.

use std::io;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sys::Interface;
use sys::packet::{ETHERTYPE_IPV4, PacketSocket};

/// DHCPDISCOVER, DHCPOFFER, DHCPREQUEST and DHCPACK (RFC 2132 §9.6).
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// What a client says of itself.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) mac: [u8; 6],
    pub(super) xid: u32,
    /// Options of the discover besides 53, in their order.
    pub(super) options: Vec<(u8, Vec<u8>)>,
    /// Options of the request besides 53, 50 and 54; `None`: it sends none, and takes the offer for a lease.
    pub(super) request: Option<Vec<(u8, Vec<u8>)>>,
    /// How often it asks, and how long it waits each time.
    pub(super) tries: (usize, Duration),
}

/// What a client was given.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) ip: Ipv4Addr,
    /// `siaddr`.
    pub(super) next_server: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Lease {
    /// An option of the offer.
    pub(super) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(of, _)| *of == code).map(|(_, value)| &value[..])
    }
}

impl Client {
    /// Asks for an address, in the network of the calling thread. An offer that `accepts` does not take is passed over.
    pub(super) fn ask(&self, accepts: impl Fn(&Lease) -> Result<()>) -> Result<Lease> {
        let interface = Interface::by_name("eth0").context("a board needs its eth0")?;
        let socket = PacketSocket::open(interface.index, Some(ETHERTYPE_IPV4)).context("a board needs raw frames")?;
        let (tries, pause) = self.tries;
        let mut refused = None;
        for _ in 0..tries {
            self.send(&socket, DISCOVER, &self.options)?;
            let Some(offer) = self.receive(&socket, OFFER, pause)? else { continue };
            if let Err(reason) = accepts(&offer) {
                refused = Some(reason);
                continue;
            }
            let Some(options) = &self.request else { return Ok(offer) };
            let server = offer.option(54).context("an offer without a server identifier")?.to_vec();
            let chosen = [(50, offer.ip.octets().to_vec()), (54, server)];
            let options: Vec<_> = chosen.into_iter().chain(options.iter().cloned()).collect();
            self.send(&socket, REQUEST, &options)?;
            let ack = self.receive(&socket, ACK, pause)?.context("no DHCPACK to the request")?;
            ensure!(ack.ip == offer.ip, "offered {}, but acknowledged {}", offer.ip, ack.ip);
            // What counts is the offer: the acknowledgement of a request without option 60 need not say it again.
            return Ok(offer);
        }
        match refused {
            Some(reason) => Err(reason.context("no offer that the firmware takes")),
            None => bail!("no DHCPOFFER to {tries} discovers"),
        }
    }

    fn send(&self, socket: &PacketSocket, kind: u8, options: &[(u8, Vec<u8>)]) -> Result<()> {
        let mut message = vec![0; 236];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(&self.xid.to_be_bytes());
        message[28..34].copy_from_slice(&self.mac);
        message.extend([99, 130, 83, 99, 53, 1, kind]);
        for (code, value) in options {
            message.extend([*code, u8::try_from(value.len())?]);
            message.extend(value);
        }
        message.push(255);
        socket.send([0xff; 6], ETHERTYPE_IPV4, &datagram(&message)?).context("cannot send a frame")
    }

    fn receive(&self, socket: &PacketSocket, kind: u8, limit: Duration) -> Result<Option<Lease>> {
        let start = Instant::now();
        let mut buffer = [0; 2048];
        while start.elapsed() < limit {
            match socket.receive(&mut buffer) {
                Ok(payload) => {
                    if let Some(lease) = self.parse(payload, kind) {
                        return Ok(Some(lease));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(2)),
                Err(error) => return Err(error).context("cannot receive frames"),
            }
        }
        Ok(None)
    }

    /// A reply of this kind to this client. Nothing before the options is looked at that the boot ROM does not look at.
    fn parse(&self, datagram: &[u8], kind: u8) -> Option<Lease> {
        let header = usize::from(datagram.first()? & 15) * 4;
        let udp = datagram.get(header..)?;
        if datagram.get(9)? != &17 || udp.get(2..4)? != 68u16.to_be_bytes() {
            return None;
        }
        let message = udp.get(8..)?;
        // RFC 951 §3: boot ROMs take no reply of less than 300 bytes.
        if message.len() < 300 || message[0] != 2 || message[4..8] != self.xid.to_be_bytes() {
            return None;
        }
        if message[28..34] != self.mac {
            return None;
        }
        let mut options = Vec::new();
        let mut rest = &message[240..];
        while let [code, length, tail @ ..] = rest {
            if *code == 255 {
                break;
            }
            let (value, tail) = tail.split_at_checked(usize::from(*length))?;
            options.push((*code, value.to_vec()));
            rest = tail;
        }
        let address = |at: usize| <[u8; 4]>::try_from(&message[at..at + 4]).ok().map(Ipv4Addr::from);
        let lease = Lease { ip: address(16)?, next_server: address(20)?, options };
        (lease.option(53)? == [kind]).then_some(lease)
    }
}

/// UDP from 0.0.0.0 port 68 to everybody's port 67, without a checksum, as the boot ROM has it.
fn datagram(payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(28 + payload.len())?;
    let mut datagram = vec![0x45, 0];
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0, 0, 0, 128, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let sum: u32 = datagram.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend([0, 68, 0, 67]);
    datagram.extend((length - 20).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    Ok(datagram)
}
