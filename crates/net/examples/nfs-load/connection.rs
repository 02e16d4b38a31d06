//! One connection to a server, with one call under way.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::nfs3::Arguments;
use wire::rpc::{AcceptStat, Call, Credential, Outcome, UnixIdentity, decode_reply};
use wire::xdr::{Reader, Writer};
use wire::{mount, nfs3, record};

use crate::{Error, status};

/// Largest reply taken in.
const REPLY: usize = 4 << 20;

pub(crate) struct Connection {
    stream: TcpStream,
    call: Writer,
    reply: Vec<u8>,
    /// A reply of several fragments, put together.
    whole: Vec<u8>,
    xid: u32,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, call: Writer::new(), reply: vec![0; 64 << 10], whole: Vec::new(), xid: 0 })
    }

    pub(crate) async fn mount(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        let arguments = |out: &mut Writer| out.opaque(path.as_bytes());
        let mut results = self.exchange((mount::PROGRAM, mount::VERSION, mount::MNT), arguments).await?;
        let handle = mount::decode_mnt_result(&mut results)?;
        Ok(handle.map_err(|status| format!("mount of {path} refused with status {status}"))?.to_vec())
    }

    /// Calls an NFS procedure; gives its results.
    pub(crate) async fn nfs(&mut self, arguments: &Arguments<'_>) -> Result<Reader<'_>, Error> {
        let procedure = (nfs3::PROGRAM, nfs3::VERSION, arguments.procedure());
        self.exchange(procedure, |out| arguments.encode(out)).await
    }

    async fn exchange(
        &mut self,
        (program, version, procedure): (u32, u32, u32),
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Reader<'_>, Error> {
        self.xid = self.xid.wrapping_add(1);
        let credential = Credential::Sys(UnixIdentity::new(0, 0, &[]));
        self.call.clear();
        self.call.u32(0);
        Call { xid: self.xid, program, version, procedure, credential }.encode(&mut self.call);
        arguments(&mut self.call);
        self.call.set_u32(0, record::header(self.call.len() - 4));
        self.stream.write_all(self.call.bytes()).await?;
        let reply = self.receive().await?;
        let mut reader = Reader::new(reply.0);
        let (xid, outcome) = decode_reply(&mut reader)?;
        if outcome != Outcome::Accepted(AcceptStat::Success) || xid != reply.1 {
            return Err(format!("call {} answered as {xid} with {outcome:?}", reply.1).into());
        }
        Ok(reader)
    }

    /// The reply and the transaction it must be of.
    async fn receive(&mut self) -> Result<(&[u8], u32), Error> {
        let mut filled = 0;
        let mut needed = 4;
        loop {
            if needed > self.reply.len() {
                self.reply.resize(needed.next_power_of_two().min(REPLY), 0);
            }
            if filled == self.reply.len() {
                return Err("the server's reply is too long".into());
            }
            let length = self.stream.read(&mut self.reply[filled..]).await?;
            if length == 0 {
                return Err("the server closed the connection".into());
            }
            filled += length;
            // Most replies are of one fragment: don't look further until it is whole.
            needed = 4
                + (u32::from_be_bytes([self.reply[0], self.reply[1], self.reply[2], self.reply[3]]) & 0x7fff_ffff)
                    as usize;
            if filled < needed.min(REPLY) {
                continue;
            }
            needed = filled + 1;
            if let Some(found) = record::next_record(&self.reply[..filled], REPLY)? {
                if let std::borrow::Cow::Owned(whole) = found.message {
                    self.whole = whole;
                    return Ok((&self.whole, self.xid));
                }
                break;
            }
        }
        Ok((&self.reply[4..filled], self.xid))
    }
}

/// A call that failed, by its status.
pub(crate) fn accepted<T>(result: Result<T, u32>) -> Result<T, Error> {
    result.map_err(status)
}
