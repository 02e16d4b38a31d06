//! A DNS server under hostile messages: no answer is an answer's cause, and none is much longer than its question.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use net::dns::{Decision, Network, Transport, Zone, handle};
use net::{Device, Devices, MacAddr};

// The first byte says who asks, and how; the rest is the message.
fuzz_target!(|data: &[u8]| {
    let [how, message @ ..] = data else { return };
    let (server, ada, bob) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 0, 6));
    let zone = Zone::new("walt", server, vec![Network { address: server, prefix: 24 }]).unwrap();
    let devices = Devices::default();
    devices.set(Device { mac: MacAddr([2, 0, 0, 0, 0, 1]), ip: ada, name: "ada".into(), behind_nat: true });
    devices.set(Device { mac: MacAddr([2, 0, 0, 0, 0, 2]), ip: bob, name: "bob".into(), behind_nat: false });
    let client = if how & 1 == 0 { ada } else { bob };
    let transport = if how & 2 == 0 { Transport::Udp } else { Transport::Tcp };
    let reply = match handle(&zone, &devices, message, client, transport) {
        Decision::Stranger => panic!("{client} is none"),
        Decision::Malformed(None) => return,
        Decision::Forward(_) => return assert_eq!(client, ada),
        Decision::Malformed(Some(reply)) | Decision::Refused(reply) | Decision::Answer(reply) => reply,
    };
    assert!((12..=message.len() + 140).contains(&reply.len()), "{} bytes", reply.len());
    assert!(matches!(handle(&zone, &devices, &reply, client, transport), Decision::Malformed(None)));
});
