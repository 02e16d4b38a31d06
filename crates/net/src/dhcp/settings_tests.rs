use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 1);

fn host(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 5, last)
}

#[test]
fn the_whole_network_but_the_server_is_the_pool() {
    let subnet = Subnet::around(SERVER, 24).unwrap();
    assert_eq!((subnet.mask(), subnet.broadcast()), (Ipv4Addr::new(255, 255, 255, 0), host(255)));
    let candidates: Vec<_> = subnet.candidates(MacAddr([2, 0, 0, 0, 0, 1])).collect();
    assert_eq!(candidates.len(), 253);
    for (address, expected) in [(0, false), (1, false), (2, true), (254, true), (255, false)] {
        assert_eq!(candidates.contains(&host(address)), expected, "{address}");
        assert_eq!(subnet.in_pool(host(address)), expected, "{address}");
    }
    assert!(!subnet.contains(Ipv4Addr::new(192, 168, 6, 2)));
}

#[test]
fn a_range_and_a_gateway_narrow_the_pool() {
    let subnet = Subnet::around(SERVER, 24).unwrap().with_range(host(10), host(12)).unwrap().with_gateway(host(11));
    let mut candidates: Vec<_> = subnet.candidates(MacAddr([2, 0, 0, 0, 0, 1])).collect();
    candidates.sort();
    assert_eq!(candidates, [host(10), host(12)]);
    assert!(subnet.admits(host(50)) && !subnet.in_pool(host(50)));
    assert!(!subnet.admits(host(11)));
}

#[test]
fn senseless_subnets_are_refused() {
    for prefix in [0, 7, 31, 32, 33, 255] {
        assert_eq!(Subnet::around(SERVER, prefix), Err(SubnetError::Prefix(prefix)));
    }
    let subnet = || Subnet::around(SERVER, 24).unwrap();
    for (first, last) in [(0, 5), (5, 255), (9, 8)] {
        assert!(subnet().with_range(host(first), host(last)).is_err(), "{first}-{last}");
    }
    assert!(subnet().with_range(host(2), Ipv4Addr::new(192, 168, 6, 9)).is_err());
}

#[test]
fn the_first_candidate_of_a_mac_never_changes() {
    // Registries of the past depend on these: a change would give nodes other addresses after a crash.
    let subnet = Subnet::around(Ipv4Addr::new(10, 0, 0, 1), 16).unwrap();
    let first = |last: u8| subnet.candidates(MacAddr([0x52, 0x54, 0, 0x12, 0x34, last])).next().unwrap();
    let expected = [(199, 28), (28, 200), (70, 234)].map(|(c, d)| Ipv4Addr::new(10, 0, c, d));
    assert_eq!([0x56, 0x57, 0x58].map(first), expected);
}

#[test]
fn neighbouring_macs_are_spread() {
    let subnet = Subnet::around(Ipv4Addr::new(10, 0, 0, 1), 16).unwrap();
    let mut firsts: Vec<_> =
        (0..=255).map(|last| subnet.candidates(MacAddr([2, 0, 0, 0, 7, last])).next().unwrap()).collect();
    firsts.sort();
    firsts.dedup();
    assert!(firsts.len() > 250, "{} different places for 256 clients", firsts.len());
}

#[test]
fn the_subnet_is_that_of_the_link() {
    let mut settings = Settings::new(SERVER, Subnet::around(SERVER, 24).unwrap());
    settings.relayed.push(Subnet::around(Ipv4Addr::new(10, 9, 0, 1), 16).unwrap());
    assert_eq!(settings.subnet_of(Ipv4Addr::UNSPECIFIED), Some(&settings.subnet));
    assert_eq!(settings.subnet_of(host(77)), Some(&settings.subnet));
    assert_eq!(settings.subnet_of(Ipv4Addr::new(10, 9, 1, 1)), Some(&settings.relayed[0]));
    assert_eq!(settings.subnet_of(Ipv4Addr::new(10, 8, 1, 1)), None);
}
