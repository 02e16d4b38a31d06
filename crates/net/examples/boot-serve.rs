//! TFTP, HTTP boot and SNTP alone, on one address: for tests with real machines and clients.
//!
//! `boot-serve ADDRESS ROOT IPXE NODE=MODEL…` serves the directory ROOT as the image of the nodes at these
//! addresses, and the bootloaders in the directory IPXE to all. Prints a line per transfer.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::{LayerFiles, View};
use walt_net::bootfile::{BootFiles, Loaders};
use walt_net::{Event, Events, Exports, MacAddr, NodeExport, http, sntp, tftp};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, root, ipxe, nodes @ ..] = arguments.as_slice() else {
        return Err("usage: boot-serve ADDRESS ROOT IPXE NODE=MODEL...".into());
    };
    let layers = tempfile::TempDir::new()?;
    let view = view(Path::new(root), layers.path())?;
    let exports = Arc::new(Exports::default());
    for (number, node) in (1..).zip(nodes) {
        let (ip, model) = node.split_once('=').ok_or("NODE=MODEL")?;
        exports.set(NodeExport {
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            ip: ip.parse()?,
            name: format!("node-{number}"),
            model: model.to_owned(),
            image: Some(Arc::clone(&view)),
            held: Vec::new(),
        });
    }
    let address: Ipv4Addr = address.parse()?;
    let at = |port| SocketAddrV4::new(address, port);
    let (events, mut heard) = Events::channel(1024);
    let files = BootFiles::new(Loaders::load(Path::new(ipxe))?, exports);
    let tftp = tftp::Server::bind(tftp::TftpConfig::new(at(69)), files.clone(), events.clone())?;
    let http = http::Server::bind(http::HttpConfig::new(at(80)), files, events)?;
    let sntp = sntp::Server::bind(at(123))?;
    let counters = tftp.counters();
    tokio::spawn(async { tftp.run().await.map(drop) });
    tokio::spawn(async { http.run().await.map(drop) });
    tokio::spawn(async { sntp.run().await.map(drop) });
    println!("ready");
    while let Some(event) = heard.recv().await {
        if let Event::FileServed { client, service, path, bytes, duration, error } = event {
            let rate = bytes as f64 / 1e6 / duration.as_secs_f64();
            let error = error.unwrap_or_default();
            println!("{client} {service} {path} {bytes} bytes {duration:.3?} {rate:.1} MB/s {error} {counters:?}");
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

/// The image that has the directory as its one layer.
fn view(root: &Path, layers: &Path) -> Result<Arc<View>, Error> {
    let tar = Command::new("tar").args(["--sort=name", "-cf", "-", "."]).current_dir(root).output()?.stdout;
    let files = LayerFiles::new(layers);
    let (id, entries) = files.add(&tar)?;
    let index = image::index::build(&[(id, &entries)], &"5a".repeat(32))?;
    Ok(Arc::new(View::from_index(index, &files)?))
}
