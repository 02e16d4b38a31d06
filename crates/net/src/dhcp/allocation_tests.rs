//! Which address a client gets, and when.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::decide::MAX_PROBES;
use super::testing::*;
use super::{Action, Subnet};
use crate::MacAddr;

#[test]
fn the_same_new_client_gets_the_same_address_from_a_server_that_lost_its_memory() {
    let first = Bench::new(&[]).offer_to(MAC);
    assert_eq!(Bench::new(&[]).offer_to(MAC), first);
    // Another client has it: the next one.
    let taken = Bench::new(&[(OTHER, first)]).offer_to(MAC);
    assert_eq!(u32::from(taken), u32::from(first) + 1);
}

#[test]
fn rfc2131_4_3_1_a_free_address_that_a_new_client_asks_for_is_preferred() {
    let mut bench = Bench::new(&[(OTHER, host(50))]);
    assert_eq!(bench.send(Packet::new(DISCOVER).ip(50, host(99))).probed(), Some(host(99)));
    let mut bench = Bench::new(&[(OTHER, host(50))]);
    for unfit in [host(50), SERVER, host(0), host(255), Ipv4Addr::new(8, 8, 8, 8)] {
        let ip = bench.send(Packet::new(DISCOVER).ip(50, unfit)).probed().unwrap();
        assert_ne!(ip, unfit);
        bench.table.forget(MAC);
    }
}

#[test]
fn rfc2131_4_3_3_a_declined_address_is_not_offered_for_a_time() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    // Somebody else's address is not its to decline.
    assert_eq!(bench.send(Packet::new(DECLINE).mac(OTHER).ip(50, host(42)).ip(54, SERVER)).change(), None);
    assert_eq!(bench.table.address_of(MAC), Some(host(42)));

    let declined = bench.send(Packet::new(DECLINE).ip(50, host(42)).ip(54, SERVER));
    assert_eq!((declined.kind(), declined.change()), (None, Some((MAC, None))));
    assert_ne!(bench.send(Packet::new(DISCOVER).ip(50, host(42))).probed().unwrap(), host(42));
    bench.table.forget(MAC);
    bench.wait(601);
    assert_eq!(bench.send(Packet::new(DISCOVER).ip(50, host(42))).probed(), Some(host(42)));
}

#[test]
fn an_offer_is_kept_for_a_time() {
    let mut bench = Bench::new(&[]);
    let ip = bench.offer_to(MAC);
    bench.wait(59);
    assert!(!bench.table.is_free_for(OTHER, ip, bench.now));
    bench.wait(1);
    assert_eq!(bench.send(Packet::new(DISCOVER).mac(OTHER).ip(50, ip)).probed(), Some(ip));
    // The first client comes late.
    assert_eq!(bench.send(Packet::new(REQUEST).ip(50, ip).ip(54, SERVER)).kind(), Some(MessageType::Nak));
}

#[test]
fn rfc5227_an_address_that_somebody_answers_for_is_not_offered() {
    let mut bench = Bench::new(&[]);
    let first = bench.send(Packet::new(DISCOVER)).probed().unwrap();
    // Retransmitted while the probe runs: one probe, one answer, to the latest of them.
    let again = bench.send(Packet::new(DISCOVER).at(4, &[9, 9, 9, 9]));
    assert_eq!((again.kind(), again.probed()), (None, None));
    let conflict = bench.answered(first, OTHER);
    assert!(conflict.0.contains(&Action::Conflict(first)));
    let second = conflict.probed().unwrap();
    assert_eq!(u32::from(second), u32::from(first) + 1);
    let offer = bench.silent(second);
    assert_eq!((offer.kind(), offer.message().unwrap().xid()), (Some(MessageType::Offer), 0x0909_0909));
    // The timer of the first probe comes up late, and an answer after the offer.
    assert!(bench.silent(first).0.is_empty() && bench.answered(second, OTHER).0.is_empty());
    // The client itself still has the address: no conflict.
    let mut bench = Bench::new(&[]);
    let ip = bench.send(Packet::new(DISCOVER)).probed().unwrap();
    assert_eq!(bench.answered(ip, MAC).kind(), Some(MessageType::Offer));
}

#[test]
fn several_probes_run_at_once_and_delay_no_known_client() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    let probed: Vec<_> = (1..=5)
        .map(|last| bench.send(Packet::new(DISCOVER).mac(MacAddr([2, 0, 0, 0, 1, last]))).probed().unwrap())
        .collect();
    assert_eq!(bench.table.probing(), 5);
    assert_eq!(bench.send(Packet::new(DISCOVER)).kind(), Some(MessageType::Offer));
    for ip in probed.into_iter().rev() {
        assert_eq!(bench.silent(ip).message().unwrap().yiaddr(), ip);
    }
    assert_eq!(bench.table.probing(), 0);
}

#[test]
fn above_the_bound_of_probes_clients_are_offered_unprobed() {
    let mut bench = Bench::new(&[]);
    bench.settings.subnet = Subnet::around(Ipv4Addr::new(10, 0, 0, 1), 16).unwrap();
    let mac = |n: usize| MacAddr([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
    for n in 0..MAX_PROBES {
        assert!(bench.send(Packet::new(DISCOVER).mac(mac(n))).probed().is_some());
    }
    assert_eq!(bench.send(Packet::new(DISCOVER).mac(mac(MAX_PROBES))).kind(), Some(MessageType::Offer));
}

#[test]
fn an_exhausted_pool_is_told_and_serves_those_it_knows() {
    let mut bench = Bench::new(&[(OTHER, host(10))]);
    bench.settings.subnet = bench.settings.subnet.clone().with_range(host(10), host(11)).unwrap();
    let ip = bench.offer_to(MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(ip, host(11));
    for _ in 0..2 {
        let none = bench.send(Packet::new(DISCOVER));
        assert!(none.0.contains(&Action::PoolExhausted(MAC)) && none.kind().is_none());
    }
    assert_eq!(bench.send(Packet::new(DISCOVER).mac(OTHER)).kind(), Some(MessageType::Offer));
    // The daemon drops a lease: room again, at once.
    assert!(bench.table.forget(OTHER));
    assert_eq!(bench.send(Packet::new(DISCOVER)).probed(), Some(host(10)));
}
