//! The iPXE that QEMU's network cards have as their ROM. Needs QEMU.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::netns::{Net, Running, SERVER, wait_for};
use walt_net::Event;

/// Stock iPXE waits 12.7 s for a router advertisement and 2 s for a proxy DHCP server (DESIGN §6.11).
#[test]
fn stock_ipxe_goes_from_discover_to_its_first_file_within_two_seconds() {
    let net = Net::new();
    net.ip("server", "tuntap add tap0 mode tap");
    net.ip("server", "link set tap0 master br0 up");
    let mut serving = net.serve(|settings| settings, &[], Arc::default());
    let mut qemu = net.command("server", "qemu-system-x86_64");
    qemu.args("-accel tcg -m 256 -display none -serial none -monitor none -boot n".split(' '));
    qemu.args("-netdev tap,id=n,ifname=tap0,script=no,downscript=no".split(' '));
    qemu.args("-device virtio-net-pci,netdev=n,mac=52:54:00:12:34:56".split(' '));
    let _qemu = Running::start(&mut qemu, &net.path("qemu.log"));

    let mut events = Vec::new();
    wait_for("discover", Duration::from_secs(120), || {
        events.extend(serving.events());
        !events.is_empty()
    });
    let start = Instant::now();
    let asked = net.within("server", || {
        let listener = std::net::TcpListener::bind((SERVER, 80)).unwrap();
        let (stream, _) = listener.accept().expect("a connection");
        BufReader::new(stream).lines().next().expect("a request").unwrap()
    });
    let elapsed = start.elapsed();
    println!("{elapsed:?} from discover to the first request");
    assert_eq!(asked, "GET /boot/pxe/walt.ipxe HTTP/1.1");
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    events.extend(serving.events());
    let lease = events.iter().find_map(|event| match event {
        Event::Lease(lease) => Some(lease),
        _ => None,
    });
    assert_eq!(lease.map(|lease| lease.uci.as_str()), Some("iPXE"));
    assert!(serving.ra.advertisements.load(Ordering::Relaxed) >= 1);
}
