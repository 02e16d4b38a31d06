//! Measures any NFSv3 servers over TCP, in turns, and prints JSON: `nfs-load --help` says how.
//!
//! Each connection has one call under way at a time, as a process on a node that waits for its
//! answer; all run on one thread, so that the server has the other processors to itself.

mod connection;
mod tree;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::nfs3::{Arguments, Status, decode_attributes, decode_directory, decode_lookup, decode_read};

use connection::Connection;
use tree::Tree;

const USAGE: &str = "\
Measures NFSv3 servers of the same tree, in turns.
  nfs-load [options] IP,NFS-PORT,MOUNT-PORT,EXPORT ...
    --connections LIST   (1,8,64)
    --seconds N          per server, figure and round (1)
    --rounds N           (1)
    --only LIST          of getattr,lookup,readdirplus,read (all)
";

/// Bytes that one READ asks for at most; files are read from their start to their end.
const READ_SIZE: u32 = 1 << 20;
/// Room that READDIRPLUS gives: few enough bytes that any server fills them with as many entries.
const LIST_SIZE: u32 = 8192;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    servers: Vec<Server>,
    connections: Vec<usize>,
    seconds: f64,
    rounds: usize,
    only: Vec<String>,
}

struct Server {
    nfs: SocketAddr,
    mount: SocketAddr,
    path: String,
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let [address, nfs, mount, path] = text.splitn(4, ',').collect::<Vec<_>>()[..] else {
            return Err(format!("{text} is not IP,NFS-PORT,MOUNT-PORT,EXPORT").into());
        };
        let address: Ipv4Addr = address.parse()?;
        let port = |port: &str| Ok::<_, Error>(SocketAddr::from((address, port.parse()?)));
        Ok(Self { nfs: port(nfs)?, mount: port(mount)?, path: path.to_owned() })
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    GetAttr,
    Lookup,
    ReadDirPlus,
    Read,
}

/// What is counted, and how.
type Unit = (&'static str, fn(&Done) -> f64);

const CALLS: Unit = ("calls per second", |done| done.calls as f64);
const ENTRIES: Unit = ("entries per second", |done| done.entries as f64);
const MEGABYTES: Unit = ("MB per second", |done| done.bytes as f64 / 1e6);

const OPERATIONS: [(&str, Operation, &[Unit]); 4] = [
    ("getattr", Operation::GetAttr, &[CALLS]),
    ("lookup", Operation::Lookup, &[CALLS]),
    // Both: a server must win neither by fewer entries in each reply nor by fewer replies.
    ("readdirplus", Operation::ReadDirPlus, &[CALLS, ENTRIES]),
    ("read", Operation::Read, &[MEGABYTES]),
];

/// What one connection has done.
#[derive(Default)]
struct Done {
    calls: u64,
    entries: u64,
    bytes: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match parse(std::env::args().skip(1)) {
        Ok(options) => run(&options).await,
        Err(error) => {
            eprint!("nfs-load: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nfs-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, Error> {
    let mut options =
        Options { servers: Vec::new(), connections: vec![1, 8, 64], seconds: 1.0, rounds: 1, only: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--connections" => options.connections = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            server => options.servers.push(server.parse()?),
        }
    }
    if options.servers.is_empty() {
        return Err("which server?".into());
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<(), Error> {
    let mut servers = Vec::new();
    for server in &options.servers {
        let root = Connection::open(server.mount).await?.mount(&server.path).await?;
        let tree = Tree::walk(&mut Connection::open(server.nfs).await?, root).await?;
        // Opened once, as nodes do: a new connection first has to learn how much is under way on a fast one.
        let mut connections = Vec::new();
        for _ in 0..options.connections.iter().copied().max().unwrap_or(0) {
            connections.push(Connection::open(server.nfs).await?);
        }
        servers.push(Measured { tree: Arc::new(tree), connections });
    }
    if !servers.iter().all(|server| server.tree.is_like(&servers[0].tree)) {
        return Err("the servers have different trees".into());
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut cells: Vec<_> = OPERATIONS
        .iter()
        .filter(|(name, ..)| wanted(name))
        .flat_map(|operation| options.connections.iter().map(move |&count| (operation, count, Vec::new())))
        .collect();
    // A round goes over all cells: what disturbs the machine for some seconds then spoils one round of a few cells
    // instead of most rounds of one. The first is not counted: it is there for the connections and the caches.
    for counted in std::iter::once(false).chain(std::iter::repeat_n(true, options.rounds)) {
        for ((_, operation, _), connections, rounds) in &mut cells {
            let mut round = Vec::new();
            for server in &mut servers {
                round.push(server.measure(*operation, *connections, options.seconds).await?);
            }
            if counted {
                rounds.push(round);
            }
        }
    }
    let mut figures = Vec::new();
    for ((name, _, units), connections, rounds) in &cells {
        for (unit, count) in *units {
            let rates = |round: &Vec<(Done, f64)>| {
                let rates: Vec<_> = round.iter().map(|(d, seconds)| format!("{:.1}", count(d) / seconds)).collect();
                format!("[{}]", rates.join(","))
            };
            let rates: Vec<_> = rounds.iter().map(rates).collect();
            figures.push(format!(
                r#"{{"operation":"{name}","connections":{connections},"unit":"{unit}","rounds":[{}]}}"#,
                rates.join(",")
            ));
        }
    }
    let tree = &servers[0].tree;
    println!(
        r#"{{"objects":{},"directories":{},"read_set_bytes":{},"figures":[{}]}}"#,
        tree.objects.len(),
        tree.directories.len(),
        tree.read_set.iter().map(|(_, size)| size).sum::<u64>(),
        figures.join(",\n")
    );
    Ok(())
}

/// A server under measurement.
struct Measured {
    tree: Arc<Tree>,
    connections: Vec<Connection>,
}

impl Measured {
    /// What `connections` of the connections do together, and in how many seconds.
    async fn measure(&mut self, operation: Operation, connections: usize, seconds: f64) -> Result<(Done, f64), Error> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        let used = self.connections.drain(..connections).enumerate();
        let workers: Vec<_> = used
            .map(|(number, connection)| {
                tokio::spawn(work(connection, Arc::clone(&self.tree), operation, number as u64, end))
            })
            .collect();
        let mut sum = Done::default();
        for worker in workers {
            let (connection, done) = worker.await??;
            self.connections.push(connection);
            sum.calls += done.calls;
            sum.entries += done.entries;
            sum.bytes += done.bytes;
        }
        Ok((sum, start.elapsed().as_secs_f64()))
    }
}

async fn work(
    mut connection: Connection,
    tree: Arc<Tree>,
    operation: Operation,
    number: u64,
    end: Instant,
) -> Result<(Connection, Done), Error> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut done = Done::default();
    while Instant::now() < end {
        match operation {
            Operation::GetAttr => {
                let object = &tree.objects[random.below(tree.objects.len())];
                let reply = connection.nfs(&Arguments::GetAttr { object: &object.handle }).await?;
                decode_attributes(&mut { reply })?.map_err(status)?;
                done.calls += 1;
            }
            Operation::Lookup => {
                let object = &tree.objects[random.below(tree.objects.len())];
                let dir = &tree.directories[object.parent];
                let reply = connection.nfs(&Arguments::Lookup { dir, name: &object.name }).await?;
                decode_lookup(&mut { reply })?.map_err(status)?;
                done.calls += 1;
            }
            Operation::ReadDirPlus => {
                let dir = &tree.directories[random.below(tree.directories.len())];
                let (dir_count, max_count) = (LIST_SIZE, LIST_SIZE);
                let arguments = Arguments::ReadDirPlus { dir, cookie: 0, verifier: 0, dir_count, max_count };
                let reply = connection.nfs(&arguments).await?;
                decode_directory(&mut { reply }, true, |_| done.entries += 1)?.map_err(status)?;
                done.calls += 1;
            }
            Operation::Read => {
                let (file, size) = &tree.read_set[random.below(tree.read_set.len())];
                let mut offset = 0;
                while offset < *size && Instant::now() < end {
                    let reply = connection.nfs(&Arguments::Read { file, offset, count: READ_SIZE }).await?;
                    let (data, _) = decode_read(&mut { reply })?.map_err(status)?;
                    if data.is_empty() {
                        return Err("the server gave no data".into());
                    }
                    offset += data.len() as u64;
                    done.bytes += data.len() as u64;
                    done.calls += 1;
                }
            }
        }
    }
    Ok((connection, done))
}

/// A status that no call of ours should get.
pub(crate) fn status(status: u32) -> Error {
    let hint = if status == Status::Stale as u32 { " (stale handle)" } else { "" };
    format!("the server answered with status {status}{hint}").into()
}

/// Xorshift: the same sequence of objects for every server.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
