//! A client: writes calls and reads replies with `wire`, over a dispatcher or a connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;

use image::Extent;
use walt_net::nfs::{Answer, Caller, Dispatcher, Exporter, Transport};
use wire::nfs3::{Arguments, Change, FileAttr, decode_attributes, decode_directory, decode_lookup, decode_read};
use wire::rpc::{AcceptStat, Call, Credential, Outcome, UnixIdentity, decode_reply};
use wire::xdr::{Reader, Writer};
use wire::{mount, nfs3, record};

/// Credential of a user.
pub(crate) fn user(uid: u32, gid: u32) -> Credential {
    Credential::Sys(UnixIdentity::new(uid, gid, &[]))
}

/// Where calls go.
pub(crate) trait Server {
    /// The reply to a message, if there is one.
    fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>>;
}

/// Calls a dispatcher from some address.
pub(crate) struct Direct<'a, E: Exporter> {
    pub(crate) dispatcher: &'a Dispatcher<E>,
    pub(crate) caller: Caller,
}

impl<'a, E: Exporter> Direct<'a, E> {
    pub(crate) fn new(dispatcher: &'a Dispatcher<E>, ip: Ipv4Addr, transport: Transport) -> Self {
        Self { dispatcher, caller: Caller { ip, transport, privileged: true } }
    }
}

impl<E: Exporter> Server for Direct<'_, E> {
    fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = Writer::new();
        match self.dispatcher.answer(self.caller, message, &mut out) {
            Answer::Silence => {
                assert!(out.is_empty(), "silence with something to say");
                return None;
            }
            Answer::Reply => {}
            Answer::Data(content) => {
                let head = out.len();
                for extent in content.extents() {
                    match extent {
                        Extent::Data { file, pos, len } => file.read_exact_at(out.room(len as usize), pos).unwrap(),
                        Extent::Hole { len } => out.room(len as usize).fill(0),
                    }
                }
                assert_eq!(out.len() - head, content.len() as usize);
                out.pad(content.len() as usize);
            }
            Answer::Wait(read) => {
                assert!(out.is_empty(), "a read that waits wrote something");
                read.finish(&mut out);
            }
            Answer::Work(call) => {
                assert!(out.is_empty(), "a call that waits wrote something");
                call.finish(&mut out);
            }
        }
        Some(out.bytes().to_vec())
    }
}

/// Calls over TCP.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
}

/// A connection from a port below 1024, as the kernel of a node makes them.
fn privileged(address: SocketAddr) -> TcpStream {
    for port in 600..1024 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let here = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port));
        if socket.bind(&here.into()).is_ok() && socket.connect(&address.into()).is_ok() {
            return socket.into();
        }
    }
    panic!("there is no port below 1024 to connect to {address} from");
}

impl Connection {
    pub(crate) fn open(address: impl Into<SocketAddr>) -> Self {
        let stream = privileged(address.into());
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self { stream }
    }

    /// The next record; `None` if the connection was closed.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).ok()?;
        let mut body = vec![0; (u32::from_be_bytes(header) & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut body).ok()?;
        Some(body)
    }
}

impl Server for Connection {
    fn exchange(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.stream.write_all(&framed(message)).ok()?;
        self.next()
    }
}

/// A message as a record of one fragment.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&record::header(message.len()).to_be_bytes()[..], message].concat()
}

/// A call as a message.
pub(crate) fn message(call: Call, arguments: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    call.encode(&mut out);
    arguments(&mut out);
    out.bytes().to_vec()
}

/// An NFS call as a message.
pub(crate) fn nfs_message(xid: u32, credential: Credential, arguments: &Arguments<'_>) -> Vec<u8> {
    let call =
        Call { xid, program: nfs3::PROGRAM, version: nfs3::VERSION, procedure: arguments.procedure(), credential };
    message(call, |out| arguments.encode(out))
}

/// Speaks to a server as one user.
pub(crate) struct Client<S> {
    pub(crate) server: S,
    pub(crate) credential: Credential,
    xid: u32,
}

impl<S: Server> Client<S> {
    pub(crate) fn new(server: S) -> Self {
        Self { server, credential: user(0, 0), xid: 0x1000 }
    }

    /// Calls, and gives the status of the reply with its results.
    pub(crate) fn call(
        &mut self,
        (program, version, procedure): (u32, u32, u32),
        arguments: impl FnOnce(&mut Writer),
    ) -> (Outcome, Vec<u8>) {
        self.xid += 1;
        let call = Call { xid: self.xid, program, version, procedure, credential: self.credential };
        let reply = self.server.exchange(&message(call, arguments)).expect("a reply");
        let mut reader = Reader::new(&reply);
        let (xid, outcome) = decode_reply(&mut reader).expect("a well-formed reply");
        assert_eq!(xid, self.xid);
        (outcome, reader.rest().to_vec())
    }

    /// Calls an NFS procedure that is to be accepted: its results.
    pub(crate) fn nfs(&mut self, arguments: &Arguments<'_>) -> Vec<u8> {
        let procedure = (nfs3::PROGRAM, nfs3::VERSION, arguments.procedure());
        let (outcome, results) = self.call(procedure, |out| arguments.encode(out));
        assert_eq!(outcome, Outcome::Accepted(AcceptStat::Success), "{arguments:?}");
        assert_eq!(results.len() % 4, 0, "results are padded");
        results
    }

    pub(crate) fn mount(&mut self, path: &str) -> Result<Vec<u8>, u32> {
        let procedure = (mount::PROGRAM, mount::VERSION, mount::MNT);
        let (outcome, results) = self.call(procedure, |out| out.opaque(path.as_bytes()));
        assert_eq!(outcome, Outcome::Accepted(AcceptStat::Success));
        mount::decode_mnt_result(&mut Reader::new(&results)).unwrap().map(<[u8]>::to_vec)
    }

    /// Makes a change that is to be accepted: its results.
    pub(crate) fn change(&mut self, change: &Change<'_>) -> Vec<u8> {
        let procedure = (nfs3::PROGRAM, nfs3::VERSION, change.procedure());
        let (outcome, results) = self.call(procedure, |out| change.encode(out));
        assert_eq!(outcome, Outcome::Accepted(AcceptStat::Success), "{change:?}");
        assert_eq!(results.len() % 4, 0, "results are padded");
        results
    }

    pub(crate) fn getattr(&mut self, object: &[u8]) -> Result<FileAttr, u32> {
        decode_attributes(&mut Reader::new(&self.nfs(&Arguments::GetAttr { object }))).unwrap()
    }

    pub(crate) fn lookup(&mut self, dir: &[u8], name: &str) -> Result<(Vec<u8>, FileAttr), u32> {
        let results = self.nfs(&Arguments::Lookup { dir, name: name.as_bytes() });
        let found = decode_lookup(&mut Reader::new(&results)).unwrap()?;
        assert!(found.dir.is_some(), "the directory's attributes come along");
        Ok((found.handle.to_vec(), found.attr.expect("attributes")))
    }

    /// Handle of a path of plain names below `root`.
    pub(crate) fn walk(&mut self, root: &[u8], path: &str) -> Vec<u8> {
        path.split('/').fold(root.to_vec(), |dir, name| self.lookup(&dir, name).expect(name).0)
    }

    pub(crate) fn read(&mut self, file: &[u8], offset: u64, count: u32) -> Result<(Vec<u8>, bool), u32> {
        let results = self.nfs(&Arguments::Read { file, offset, count });
        decode_read(&mut Reader::new(&results)).unwrap().map(|(data, eof)| (data.to_vec(), eof))
    }

    /// One listing: (fileid, name, cookie) of each entry, and whether it is the end; `sizes` are READDIR's
    /// count, or READDIRPLUS's dircount and maxcount.
    pub(crate) fn list(&mut self, dir: &[u8], cookie: u64, sizes: Sizes) -> Result<(Vec<Listed>, bool), u32> {
        let (arguments, room) = match sizes {
            Sizes::Plain(count) => (Arguments::ReadDir { dir, cookie, verifier: 0, count }, count),
            Sizes::Plus(dir_count, max_count) => {
                (Arguments::ReadDirPlus { dir, cookie, verifier: 0, dir_count, max_count }, max_count)
            }
        };
        let results = self.nfs(&arguments);
        let mut entries = Vec::new();
        let end = decode_directory(&mut Reader::new(&results), matches!(sizes, Sizes::Plus(..)), |entry| {
            entries.push(Listed {
                fileid: entry.fileid,
                name: String::from_utf8(entry.name.to_vec()).unwrap(),
                cookie: entry.cookie,
                attr: entry.attr,
                handle: entry.handle.map(<[u8]>::to_vec),
            });
        })
        .unwrap()?;
        assert!(results.len() - 4 <= room as usize, "{} bytes where {room} are allowed", results.len() - 4);
        Ok((entries, end.eof))
    }
}

/// How a directory is listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sizes {
    Plain(u32),
    Plus(u32, u32),
}

/// An entry, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) fileid: u64,
    pub(crate) name: String,
    pub(crate) cookie: u64,
    pub(crate) attr: Option<FileAttr>,
    pub(crate) handle: Option<Vec<u8>>,
}
