//! A DHCP server under a history of hostile messages, probe results, and time.
#![no_main]

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use net::MacAddr;
use net::dhcp::{Action, LeaseTable, Meta, ReplyError, Request, Settings, Subnet, handle, probe_ended};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

// The input is a list of steps: a byte that says what happens, and for a message two bytes of length and its bytes.
fuzz_target!(|data: &[u8]| {
    // A small pool, so that it runs out; a relayed subnet, and a known client.
    let subnet = Subnet::around(SERVER, 24).unwrap();
    let mut settings = Settings::new(SERVER, subnet.with_range([10, 0, 0, 10].into(), [10, 0, 0, 17].into()).unwrap());
    settings.relayed.push(Subnet::around([10, 1, 0, 1].into(), 29).unwrap());
    let mut table = LeaseTable::new([(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]), [10, 0, 0, 12].into())]);
    let mut now = Instant::now();
    let mut probes: Vec<Ipv4Addr> = Vec::new();
    let mut rest = data;
    while let [step, tail @ ..] = rest {
        rest = tail;
        let actions = match step % 8 {
            0 => {
                now += Duration::from_secs(u64::from(*step));
                continue;
            }
            1 => {
                let Some(ip) = probes.pop() else { continue };
                probe_ended(&mut table, &settings, ip, None, now)
            }
            2 => {
                let Some(ip) = probes.pop() else { continue };
                probe_ended(&mut table, &settings, ip, Some(MacAddr([2, 0, 0, 0, 0, *step])), now)
            }
            3 => {
                settings.authoritative = !settings.authoritative;
                continue;
            }
            _ => {
                let [high, low, tail @ ..] = rest else { return };
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
                let (message, tail) = tail.split_at(length);
                rest = tail;
                let Ok(request) = Request::parse(message) else { continue };
                let meta = Meta { source: Ipv4Addr::UNSPECIFIED, host_name: Some("node-123456".to_owned()), closing: false };
                handle(&mut table, &settings, request, meta, now)
            }
        };
        check(&settings, &actions);
        for action in actions {
            match action {
                Action::ProbeAddress(ip) => probes.push(ip),
                Action::LeaseChanged(change) => table.mark_saved(change.mac),
                _ => {}
            }
        }
        let leased: Vec<Ipv4Addr> = table.leases().map(|(_, ip)| ip).collect();
        assert_eq!(leased.iter().collect::<HashSet<_>>().len(), leased.len(), "an address is leased twice");
        assert!(leased.iter().all(|ip| admitted(&settings, *ip)), "{leased:?}");
    }
});

fn check(settings: &Settings, actions: &[Action]) {
    for action in actions {
        match action {
            Action::Send(reply) => {
                let given = reply.message.yiaddr();
                assert!(given.is_unspecified() || admitted(settings, given), "{given}");
                let bytes = match (**reply).clone().encode() {
                    Ok(bytes) => bytes,
                    Err(ReplyError::TooLarge(_)) => continue,
                    Err(error) => panic!("{error:?}"),
                };
                assert!((300..=1472).contains(&bytes.len()), "{} bytes", bytes.len());
                assert_eq!(bytes[0], 2);
                // Our own replies must not make us answer, if they ever come back.
                assert!(Request::parse(&bytes).is_err());
            }
            Action::ProbeAddress(ip) => assert!(settings.subnet.in_pool(*ip), "{ip}"),
            _ => {}
        }
    }
}

fn admitted(settings: &Settings, ip: Ipv4Addr) -> bool {
    std::iter::once(&settings.subnet).chain(&settings.relayed).any(|subnet| subnet.admits(ip))
}
