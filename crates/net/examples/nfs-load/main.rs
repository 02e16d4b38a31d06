//! Measures any NFSv3 server over TCP, and prints JSON: `nfs-load --help` says how.
//!
//! Each connection has one call under way at a time, as a process on a node that waits for its
//! answer; all run on one thread, so that the server has the other processors to itself.

mod connection;
mod tree;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::nfs3::{Arguments, Status, decode_attributes, decode_directory, decode_lookup, decode_read};

use connection::Connection;
use tree::Tree;

const USAGE: &str = "\
Measures an NFSv3 server.
  nfs-load --path EXPORT [options]
    --server IP          (127.0.0.1)
    --nfs-port PORT      (2049)
    --mount-port PORT    (as --nfs-port)
    --connections LIST   (1,8,64)
    --seconds N          per figure (3)
    --only LIST          of getattr,lookup,readdirplus,read (all)
    --label NAME         repeated in the output
";

/// Bytes that one READ asks for at most; files are read from their start to their end.
const READ_SIZE: u32 = 1 << 20;
/// Room that READDIRPLUS gives: few enough bytes that any server fills them with as many entries.
const LIST_SIZE: u32 = 8192;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    server: Ipv4Addr,
    nfs_port: u16,
    mount_port: Option<u16>,
    path: String,
    connections: Vec<usize>,
    seconds: f64,
    only: Vec<String>,
    label: String,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    GetAttr,
    Lookup,
    ReadDirPlus,
    Read,
}

const OPERATIONS: [(&str, Operation); 4] = [
    ("getattr", Operation::GetAttr),
    ("lookup", Operation::Lookup),
    ("readdirplus", Operation::ReadDirPlus),
    ("read", Operation::Read),
];

/// What one connection has done.
#[derive(Default, Clone, Copy)]
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
    let mut options = Options {
        server: Ipv4Addr::LOCALHOST,
        nfs_port: wire::nfs3::PORT,
        mount_port: None,
        path: String::new(),
        connections: vec![1, 8, 64],
        seconds: 3.0,
        only: Vec::new(),
        label: String::new(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--server" => options.server = value.parse()?,
            "--nfs-port" => options.nfs_port = value.parse()?,
            "--mount-port" => options.mount_port = Some(value.parse()?),
            "--path" => options.path = value,
            "--connections" => options.connections = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--seconds" => options.seconds = value.parse()?,
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--label" => options.label = value,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    if options.path.is_empty() {
        return Err("--path is needed".into());
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<(), Error> {
    let nfs = SocketAddr::from((options.server, options.nfs_port));
    let mount = SocketAddr::from((options.server, options.mount_port.unwrap_or(options.nfs_port)));
    let root = Connection::open(mount).await?.mount(&options.path).await?;
    let tree = Arc::new(Tree::walk(&mut Connection::open(nfs).await?, root).await?);
    let mut figures = Vec::new();
    for (name, operation) in OPERATIONS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        for &connections in &options.connections {
            let figure = measure(nfs, &tree, operation, connections, options.seconds).await?;
            eprintln!("{} {name} x{connections}: {figure}", options.label);
            figures.push(format!(r#"{{"operation":"{name}","connections":{connections},{figure}}}"#));
        }
    }
    println!(
        r#"{{"label":{:?},"server":"{nfs}","objects":{},"directories":{},"read_set_bytes":{},"figures":[{}]}}"#,
        options.label,
        tree.objects.len(),
        tree.directories.len(),
        tree.read_set.iter().map(|(_, size)| size).sum::<u64>(),
        figures.join(",")
    );
    Ok(())
}

/// Members of a JSON object: one figure.
async fn measure(
    nfs: SocketAddr,
    tree: &Arc<Tree>,
    operation: Operation,
    connections: usize,
    seconds: f64,
) -> Result<String, Error> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(nfs).await?);
    }
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let workers: Vec<_> = open
        .into_iter()
        .enumerate()
        .map(|(number, connection)| tokio::spawn(work(connection, Arc::clone(tree), operation, number as u64, end)))
        .collect();
    let mut sum = Done::default();
    for worker in workers {
        let done = worker.await??;
        sum.calls += done.calls;
        sum.entries += done.entries;
        sum.bytes += done.bytes;
    }
    let seconds = start.elapsed().as_secs_f64();
    let calls = sum.calls as f64 / seconds;
    Ok(match operation {
        Operation::Read => {
            format!(r#""megabytes_per_second":{:.1},"calls_per_second":{calls:.0}"#, sum.bytes as f64 / 1e6 / seconds)
        }
        Operation::ReadDirPlus => {
            format!(r#""calls_per_second":{calls:.0},"entries_per_second":{:.0}"#, sum.entries as f64 / seconds)
        }
        _ => format!(r#""calls_per_second":{calls:.0}"#),
    })
}

async fn work(
    mut connection: Connection,
    tree: Arc<Tree>,
    operation: Operation,
    number: u64,
    end: Instant,
) -> Result<Done, Error> {
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
    Ok(done)
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
