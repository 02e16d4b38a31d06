//! Serves an image over NFS to one client, without the daemon: `nfs-serve --help` says how.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use image::{LayerFiles, View, index};
use walt_net::nfs::{HandleKey, Limits, NfsConfig, NfsServer};
use walt_net::{Events, Exports, MacAddr, NodeExport};

const USAGE: &str = "\
Serves an image over NFSv3 to one client.
  nfs-serve (--tree DIR | --layer TAR [--layer TAR ...]) [options]
    --tree DIR        a directory, packed with tar(1) first
    --layer TAR       layers of an image, the lowest first
    --state DIR       where the layers are kept; default: a directory that is removed at the end
    --address IP      address to serve on (127.0.0.1)
    --port PORT       port of NFS and MOUNT (2049)
    --portmap PORT    port of the port mapper (none)
    --client IP       the one client (127.0.0.1)
    --root DIR        what stands before nodes/<ip>/fs in the path to mount (/var/lib/walt)
";

struct Options {
    tree: Option<PathBuf>,
    layers: Vec<PathBuf>,
    state: Option<PathBuf>,
    address: Ipv4Addr,
    port: u16,
    portmap: Option<u16>,
    client: Ipv4Addr,
    root: String,
}

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprint!("nfs-serve: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nfs-serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, Error> {
    let mut options = Options {
        tree: None,
        layers: Vec::new(),
        state: None,
        address: Ipv4Addr::LOCALHOST,
        port: wire::nfs3::PORT,
        portmap: None,
        client: Ipv4Addr::LOCALHOST,
        root: "/var/lib/walt".to_owned(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--tree" => options.tree = Some(value.into()),
            "--layer" => options.layers.push(value.into()),
            "--state" => options.state = Some(value.into()),
            "--address" => options.address = value.parse()?,
            "--port" => options.port = value.parse()?,
            "--portmap" => options.portmap = Some(value.parse()?),
            "--client" => options.client = value.parse()?,
            "--root" => options.root = value,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    if options.tree.is_some() != options.layers.is_empty() {
        return Err("one of --tree and --layer is needed".into());
    }
    Ok(options)
}

async fn serve(options: &Options) -> Result<(), Error> {
    let scratch = tempfile::tempdir()?;
    let state = options.state.as_deref().unwrap_or(scratch.path());
    std::fs::create_dir_all(state)?;
    let view = match &options.tree {
        Some(tree) => {
            let tar = scratch.path().join("tree.tar");
            pack(tree, &tar)?;
            open(&[tar], state)?
        }
        None => open(&options.layers, state)?,
    };
    let exports = Arc::new(Exports::default());
    exports.set(NodeExport {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, 1]),
        ip: options.client,
        name: "client".to_owned(),
        model: "pc-x86-64".to_owned(),
        image: Some(Arc::new(view)),
        held: Vec::new(),
    });
    let (events, mut received) = Events::channel(64);
    let config = NfsConfig {
        address: options.address,
        portmap_port: options.portmap,
        nfs_port: options.port,
        roots: vec![options.root.clone()],
        // Not secret: whoever runs this wants the same handles again after a restart.
        key: HandleKey::new(*b"nfs-serve's key."),
        limits: Limits { connections_per_client: 1024, ..Limits::default() },
    };
    let server = NfsServer::bind(config, exports, events)?;
    println!("serving {}:{}/nodes/{}/fs port={}", options.address, options.root, options.client, server.nfs_port());
    tokio::select! {
        () = server.run() => {}
        () = async { while let Some(event) = received.recv().await { println!("{event:?}") } } => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

fn pack(tree: &Path, tar: &Path) -> Result<(), Error> {
    let status = Command::new("tar")
        .args(["--format=posix", "--numeric-owner", "--sort=name", "-cf"])
        .arg(tar)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("tar of {} failed: {status}", tree.display()).into()) }
}

fn open(tars: &[PathBuf], state: &Path) -> Result<View, Error> {
    let files = LayerFiles::new(state);
    let layers = tars.iter().map(|tar| Ok(files.add(&std::fs::read(tar)?)?)).collect::<Result<Vec<_>, Error>>()?;
    let layers: Vec<_> = layers.iter().map(|(id, entries)| (*id, entries)).collect();
    // Any id will do that is the same for the same layers.
    let id = layers.last().map_or_else(String::new, |(id, _)| id.hex());
    let index = index::build(&layers, &id)?;
    let path = state.join("index");
    index::write(&index, &path)?;
    Ok(View::open(&path, &files)?)
}
