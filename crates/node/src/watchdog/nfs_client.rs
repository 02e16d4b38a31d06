//! Just enough of an NFSv3 client to ask whether the root is still there.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use wire::nfs3::{self, Arguments};
use wire::rpc::{AcceptStat, Call, Credential, Outcome, UnixIdentity, decode_reply};
use wire::xdr::{Reader, Writer};
use wire::{mount, portmap, record};

use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::NfsShare;

/// No answer of interest is longer.
const MAX_REPLY: usize = 4096;

/// A client of one share.
pub(super) struct NfsClient {
    server: Ipv4Addr,
    share: NfsShare,
    /// Longest time for a connection, and for each answer.
    patience: Duration,
    /// Handle of the share's root, once MNT has given it.
    root: Option<Vec<u8>>,
    connection: Option<Connection>,
}

impl NfsClient {
    pub(super) fn new(server: Ipv4Addr, share: NfsShare, patience: Duration) -> Self {
        Self { server, share, patience, root: None, connection: None }
    }

    /// Asks for the attributes of the root by its handle: what answers that can serve the node's
    /// files. ESTALE is no answer, for the kernel's own handles are stale too.
    pub(super) fn probe(&mut self) -> Result<(), Failure> {
        let result = self.get_attributes();
        if result.is_err() {
            // What comes late on this connection would answer another call.
            self.connection = None;
        }
        result
    }

    fn get_attributes(&mut self) -> Result<(), Failure> {
        let root = match &self.root {
            Some(root) => root.clone(),
            None => self.root.insert(self.mount()?).clone(),
        };
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(self.port("port", nfs3::PROGRAM, nfs3::VERSION)?)?,
        };
        let connection = self.connection.insert(connection);
        let arguments = Arguments::GetAttr { object: &root };
        let reply =
            connection.call(nfs3::PROGRAM, nfs3::VERSION, arguments.procedure(), |out| arguments.encode(out))?;
        match nfs3::decode_attributes(&mut Reader::new(&reply)).doing(|| "read GETATTR's answer".into())? {
            Ok(_) => Ok(()),
            Err(status) => Err(Failure::new(format!("GETATTR of the root: NFS status {status}"))),
        }
    }

    /// The root's handle, by MNT. The server counts it as a mount of this node, which it is.
    fn mount(&self) -> Result<Vec<u8>, Failure> {
        let mut connection = self.connect(self.port("mountport", mount::PROGRAM, mount::VERSION)?)?;
        let path = self.share.path.as_bytes();
        let reply = connection.call(mount::PROGRAM, mount::VERSION, mount::MNT, |out| out.opaque(path))?;
        match mount::decode_mnt_result(&mut Reader::new(&reply)).doing(|| "read MNT's answer".into())? {
            Ok(handle) => Ok(handle.to_vec()),
            Err(status) => Err(Failure::new(format!("MNT {}: status {status}", self.share.path))),
        }
    }

    /// The port of a program: what the mount options say, else what the port mapper says.
    fn port(&self, option: &str, program: u32, version: u32) -> Result<u16, Failure> {
        // The kernel shows `mountport=0` when it has not asked yet.
        if let Some(port) = self.share.option(option).and_then(|port| port.parse().ok()).filter(|&port| port != 0) {
            return Ok(port);
        }
        let mut connection = self.connect(portmap::PORT)?;
        let mapping = portmap::Mapping { program, version, protocol: portmap::TCP, port: 0 };
        let reply = connection.call(portmap::PROGRAM, portmap::VERSION, portmap::GETPORT, |out| mapping.encode(out))?;
        let port = Reader::new(&reply).u32().doing(|| "read GETPORT's answer".into())?;
        let port = u16::try_from(port).ok().filter(|&port| port != 0);
        port.ok_or_else(|| Failure::new(format!("program {program} is not registered with the port mapper")))
    }

    fn connect(&self, port: u16) -> Result<Connection, Failure> {
        let address = SocketAddr::from((self.server, port));
        let open = || {
            let stream = TcpStream::connect_timeout(&address, self.patience)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(Connection { stream, xid: std::process::id() })
        };
        open().doing(|| format!("connect to {address}"))
    }
}

/// An ONC-RPC connection with one call at a time.
struct Connection {
    stream: TcpStream,
    xid: u32,
}

impl Connection {
    /// Calls `procedure`; the answer begins at its results.
    fn call(
        &mut self,
        program: u32,
        version: u32,
        procedure: u32,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, Failure> {
        self.xid = self.xid.wrapping_add(1);
        let credential = Credential::Sys(UnixIdentity::new(0, 0, &[]));
        let mut out = Writer::new();
        out.u32(0);
        Call { xid: self.xid, program, version, procedure, credential }.encode(&mut out);
        arguments(&mut out);
        out.set_u32(0, record::header(out.len() - 4));
        let what = || format!("call procedure {procedure} of program {program}");
        self.stream.write_all(out.bytes()).doing(what)?;
        let reply = self.read_record().doing(what)?;
        let mut reader = Reader::new(&reply);
        match decode_reply(&mut reader).doing(what)? {
            (xid, _) if xid != self.xid => Err(Failure::new(format!("{}: answer to another call", what()))),
            (_, Outcome::Accepted(AcceptStat::Success)) => Ok(reader.rest().to_vec()),
            (_, outcome) => Err(Failure::new(format!("{}: {outcome:?}", what()))),
        }
    }

    fn read_record(&mut self) -> std::io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let mut piece = [0; 1024];
        loop {
            if let Some(record) = record::next_record(&buffer, MAX_REPLY).map_err(std::io::Error::other)? {
                return Ok(record.message.into_owned());
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(std::io::Error::other("connection closed")),
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
                // How a read that takes too long is told (`set_read_timeout`).
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(std::io::Error::other("no answer in time"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
