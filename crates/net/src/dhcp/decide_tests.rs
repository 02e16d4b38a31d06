use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::super::testing::*;
use super::super::{Destination, ReplyError};
use super::*;

#[test]
fn rfc2131_3_1_a_new_client_gets_an_address_for_good() {
    let mut bench = Bench::new(&[]);
    let ip = bench.offer_to(MAC);
    let ack =
        bench.send(Packet::new(REQUEST).ip(50, ip).ip(54, SERVER).option(60, b"walt.node.pc-x86-64").option(12, b"h"));
    assert_eq!(ack.kind(), Some(MessageType::Ack));
    assert_eq!(ack.message().unwrap().yiaddr(), ip);
    assert_eq!(ack.change(), Some((MAC, Some(ip))));
    let at = |wanted: fn(&Action) -> bool| ack.0.iter().position(wanted).unwrap();
    let kept = at(|action| matches!(action, Action::LeaseChanged(_)));
    assert!(kept < at(|action| matches!(action, Action::Send(_))), "kept before it is acknowledged: {:?}", ack.0);
    let event = ack.lease_event().unwrap();
    assert_eq!((event.mac, event.ip), (MAC, ip));
    assert_eq!((event.vci.as_str(), event.uci.as_str(), event.host_name.as_str()), ("walt.node.pc-x86-64", "", "h"));
    assert_eq!(ack.events(), ["request", "ack"]);

    // Told again until it is saved, and then no more.
    let request = || Packet::new(REQUEST).ip(50, ip).ip(54, SERVER);
    assert_eq!(bench.send(request()).change(), Some((MAC, Some(ip))));
    bench.table.mark_saved(MAC);
    assert_eq!(bench.send(request()).change(), None);

    // A year later it is still there, and no probe delays it.
    bench.wait(365 * 86_400);
    let offer = bench.send(Packet::new(DISCOVER));
    assert_eq!((offer.kind(), offer.message().unwrap().yiaddr()), (Some(MessageType::Offer), ip));
    assert_eq!(offer.events(), ["discover", "offer"]);
}

#[test]
fn rfc2131_4_3_1_a_known_client_is_offered_its_address_at_once() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    let offer = bench.send(Packet::new(DISCOVER).ip(50, host(43)));
    assert_eq!((offer.kind(), offer.probed()), (Some(MessageType::Offer), None));
    assert_eq!(offer.message().unwrap().yiaddr(), host(42));
    assert!(offer.lease_event().is_none());
}

#[test]
fn rfc2131_4_3_1_table_3_fields_and_options_of_an_offer() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    bench.settings.domain = Some("lab.example".into());
    let with_gateway = bench.settings.subnet.clone().with_gateway(host(254));
    bench.settings.subnet = with_gateway;
    let offer = bench.send(Packet::new(DISCOVER).option(61, b"\x01me").option(55, &[1, 3, 250, 0, 1, 1]));
    let bytes = offer.reply().unwrap().clone().encode().unwrap();
    let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(message.xid(), 0xcafe_0001);
    assert_eq!((message.yiaddr(), message.siaddr()), (host(42), SERVER));
    assert!(message.ciaddr().is_unspecified() && message.giaddr().is_unspecified());
    assert_eq!(message.chaddr(), MAC.0);
    let options: Vec<DhcpOption> = message.opts().iter().map(|(_, option)| option.clone()).collect();
    assert_eq!(
        options,
        [
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![host(254)]),
            DhcpOption::DomainNameServer(vec![SERVER]),
            DhcpOption::Hostname("node-1".into()),
            DhcpOption::DomainName("lab.example".into()),
            DhcpOption::BroadcastAddr(host(255)),
            DhcpOption::NtpServers(vec![SERVER]),
            DhcpOption::AddressLeaseTime(86_400),
            DhcpOption::MessageType(MessageType::Offer),
            DhcpOption::ServerIdentifier(SERVER),
            DhcpOption::Renewal(43_200),
            DhcpOption::Rebinding(75_600),
            // RFC 6842 §3.
            DhcpOption::ClientIdentifier(b"\x01me".to_vec()),
            DhcpOption::TFTPServerName(b"192.168.5.1".to_vec()),
        ]
    );
    // No gateway configured: no option 3.
    assert!(Bench::new(&[(MAC, host(42))]).send(Packet::new(DISCOVER)).option(OptionCode::Router).is_none());
}

#[test]
fn rfc_2132_section_3_5_we_are_the_router_of_those_behind_nat_alone() {
    let router = |bench: &mut Bench, packet: Packet| match bench.send(packet).option(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => Some(routers.clone()),
        _ => None,
    };
    let inform = || Packet::new(INFORM).ciaddr(host(42));
    let relayed = || Packet::new(DISCOVER).mac(OTHER).giaddr(RELAY);
    let mut bench = Bench::new(&[(MAC, host(42))]);
    for (gateway, behind_nat, expected) in [
        (None, false, None),
        (None, true, Some(SERVER)),
        (Some(host(254)), false, Some(host(254))),
        (Some(host(254)), true, Some(SERVER)),
    ] {
        bench.settings.subnet.gateway = gateway;
        bench.behind_nat = behind_nat;
        let expected = expected.map(|router| vec![router]);
        assert_eq!(router(&mut bench, Packet::new(DISCOVER)), expected);
        assert_eq!(router(&mut bench, Packet::new(REQUEST).ip(50, host(42))), expected);
        assert_eq!(router(&mut bench, inform()), expected);
        // We are not in the network of a relay agent.
        assert_eq!(router(&mut bench, relayed()), None);
    }
    bench.settings.relayed[0] = bench.settings.relayed[0].clone().with_gateway(RELAY);
    assert_eq!(router(&mut bench, relayed()), Some(vec![RELAY]));
}

#[test]
fn rfc2131_4_3_2_selecting() {
    // Another server was chosen: the offer is free again, and nothing is said.
    let mut bench = Bench::new(&[]);
    let ip = bench.offer_to(MAC);
    let other = bench.send(Packet::new(REQUEST).ip(50, ip).ip(54, host(2)));
    assert_eq!(other.kind(), None);
    assert!(bench.table.is_free_for(OTHER, ip, bench.now));

    // A lease is not given up for this.
    let mut bench = Bench::new(&[(MAC, host(42))]);
    assert_eq!(bench.send(Packet::new(REQUEST).ip(50, host(43)).ip(54, host(2))).kind(), None);
    assert_eq!(bench.table.address_of(MAC), Some(host(42)));

    // Not what we offered.
    let nak = bench.send(Packet::new(REQUEST).ip(50, host(43)).ip(54, SERVER));
    assert_eq!(nak.kind(), Some(MessageType::Nak));
    assert_eq!(bench.table.address_of(MAC), Some(host(42)));

    // We were restarted between offer and request.
    let mut bench = Bench::new(&[]);
    let ack = bench.send(Packet::new(REQUEST).ip(50, host(43)).ip(54, SERVER));
    assert_eq!((ack.kind(), ack.change()), (Some(MessageType::Ack), Some((MAC, Some(host(43))))));
    assert_eq!(bench.table.address_of(MAC), Some(host(43)));

    // Neither an address nor a way to guess one.
    assert_eq!(bench.send(Packet::new(REQUEST).ip(54, SERVER)).kind(), None);
}

#[test]
fn rfc2131_4_3_2_init_reboot() {
    let init_reboot = |ip| Packet::new(REQUEST).ip(50, ip);
    let mut bench = Bench::new(&[(MAC, host(42)), (OTHER, host(50))]);
    assert_eq!(bench.send(init_reboot(host(42))).kind(), Some(MessageType::Ack));
    let cases: &[(&str, MacAddr, Ipv4Addr)] = &[
        ("its notion is not correct", MAC, host(43)),
        ("it is on the wrong network", MAC, Ipv4Addr::new(10, 0, 0, 5)),
        ("unknown, wrong network", MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 5)),
        ("unknown, somebody else's", MacAddr([2, 0, 0, 0, 0, 1]), host(50)),
        ("unknown, ours", MacAddr([2, 0, 0, 0, 0, 1]), SERVER),
    ];
    for (name, mac, ip) in cases {
        let nak = bench.send(init_reboot(*ip).mac(*mac));
        assert_eq!(nak.kind(), Some(MessageType::Nak), "{name}");
        assert_eq!(nak.reply().unwrap().to, Destination::Broadcast, "{name}");
        let nak = nak.message().unwrap();
        assert!(
            nak.yiaddr().is_unspecified() && nak.siaddr().is_unspecified() && nak.ciaddr().is_unspecified(),
            "{name}"
        );
        assert!(nak.opts().get(OptionCode::AddressLeaseTime).is_none(), "{name}");
    }

    // Unknown, free: taken up once nobody answers for it.
    let stranger = MacAddr([2, 0, 0, 0, 0, 2]);
    let probe = bench.send(init_reboot(host(60)).mac(stranger));
    assert_eq!((probe.kind(), probe.probed()), (None, Some(host(60))));
    let ack = bench.silent(host(60));
    assert_eq!((ack.kind(), ack.change()), (Some(MessageType::Ack), Some((stranger, Some(host(60))))));

    // And refused if somebody does.
    let stranger = MacAddr([2, 0, 0, 0, 0, 3]);
    assert_eq!(bench.send(init_reboot(host(61)).mac(stranger)).probed(), Some(host(61)));
    assert_eq!(bench.answered(host(61), OTHER).kind(), Some(MessageType::Nak));
    assert_eq!(bench.table.address_of(stranger), None);
}

#[test]
fn rfc2131_4_3_2_without_authority_the_unknown_is_met_with_silence() {
    let mut bench = Bench::new(&[(OTHER, host(50))]);
    bench.settings.authoritative = false;
    for ip in [host(50), host(60), Ipv4Addr::new(10, 0, 0, 5)] {
        assert_eq!(bench.send(Packet::new(REQUEST).ip(50, ip)).kind(), None, "{ip}");
        assert_eq!(bench.send(Packet::new(REQUEST).ciaddr(ip)).kind(), None, "{ip}");
    }
    // It has a record of this one.
    assert_eq!(bench.send(Packet::new(REQUEST).mac(OTHER).ip(50, host(51))).kind(), Some(MessageType::Nak));
}

#[test]
fn rfc2131_4_3_2_renewing_and_rebinding() {
    let renew = |ip| Packet::new(REQUEST).ciaddr(ip);
    let mut bench = Bench::new(&[(MAC, host(42)), (OTHER, host(50))]);
    let ack = bench.send(renew(host(42)));
    assert_eq!(ack.kind(), Some(MessageType::Ack));
    assert_eq!(ack.reply().unwrap().to, Destination::Client(host(42)));
    assert_eq!((ack.message().unwrap().ciaddr(), ack.message().unwrap().yiaddr()), (host(42), host(42)));
    assert_eq!(bench.send(renew(host(43))).kind(), Some(MessageType::Nak));

    // A client that works goes on working when our memory is lost, unprobed: it would answer for itself.
    let mut bench = Bench::new(&[(OTHER, host(50))]);
    let ack = bench.send(renew(host(42)));
    assert_eq!((ack.kind(), ack.probed()), (Some(MessageType::Ack), None));
    assert_eq!(ack.change(), Some((MAC, Some(host(42)))));
    let nak = Bench::new(&[(OTHER, host(50))]).send(renew(host(50)));
    assert_eq!((nak.kind(), nak.reply().unwrap().to), (Some(MessageType::Nak), Destination::Broadcast));
}

#[test]
fn rfc2131_4_3_4_a_released_lease_stays() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    let released = bench.send(Packet::new(RELEASE).ciaddr(host(42)).ip(54, SERVER));
    assert_eq!((released.kind(), released.change()), (None, None));
    assert_eq!(bench.send(Packet::new(DISCOVER)).message().unwrap().yiaddr(), host(42));
}

#[test]
fn rfc2131_4_3_5_inform_gets_parameters_and_no_lease() {
    let mut bench = Bench::new(&[]);
    let ack = bench.send(Packet::new(INFORM).ciaddr(host(7)));
    assert_eq!((ack.kind(), ack.reply().unwrap().to), (Some(MessageType::Ack), Destination::Client(host(7))));
    assert!(ack.message().unwrap().yiaddr().is_unspecified());
    for absent in [OptionCode::AddressLeaseTime, OptionCode::Renewal, OptionCode::Rebinding] {
        assert!(ack.option(absent).is_none(), "{absent:?}");
    }
    assert!(ack.option(OptionCode::SubnetMask).is_some());
    assert!(ack.lease_event().is_none() && ack.change().is_none());
    // Where from is unknown: nowhere to answer to.
    assert_eq!(bench.send(Packet::new(INFORM)).kind(), None);
}

#[test]
fn rfc2131_4_1_where_a_reply_goes() {
    let hardware = Destination::Hardware { mac: MAC.0, ip: host(42) };
    let cases: &[(&str, Packet, Destination)] = &[
        ("to its hardware address", Packet::new(DISCOVER), hardware),
        ("broadcast, if it asks for that", Packet::new(DISCOVER).broadcast(), Destination::Broadcast),
        ("to its address", Packet::new(REQUEST).ciaddr(host(42)), Destination::Client(host(42))),
        ("ciaddr before the flag", Packet::new(REQUEST).ciaddr(host(42)).broadcast(), Destination::Client(host(42))),
        ("the relay before all", Packet::new(DISCOVER).giaddr(host(2)).broadcast(), Destination::Relay(host(2))),
    ];
    for (name, packet, to) in cases {
        let outcome = Bench::new(&[(MAC, host(42))]).send(packet.clone());
        assert_eq!(outcome.reply().unwrap().to, *to, "{name}");
    }
}

#[test]
fn a_relayed_client_gets_an_address_of_its_own_subnet() {
    let agent = [1, 4, b'e', b't', b'h', b'7', 200, 1, 9, 2, 1, 5];
    let mut bench = Bench::new(&[]);
    let offer = bench.send(Packet::new(DISCOVER).giaddr(RELAY).option(82, &agent));
    let message = offer.message().unwrap();
    assert_eq!(offer.probed(), None, "arp does not pass a relay");
    assert_eq!(message.yiaddr().octets()[..2], [10, 9]);
    assert_eq!(message.giaddr(), RELAY);
    assert_eq!(offer.option(OptionCode::SubnetMask), Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0))));
    // RFC 3046 §2.2: whole, unknown sub-options and their order included, and last.
    let bytes = offer.reply().unwrap().clone().encode().unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert_eq!(bytes[end], 255);
    assert_eq!(bytes[end - 14..end - 12], [82, 12]);
    assert_eq!(bytes[end - 12..end], agent);
    assert_eq!(bytes.windows(2).filter(|pair| *pair == [82, 12]).count(), 1);

    // Back on our own link its address is no good.
    let ip = message.yiaddr();
    assert_eq!(bench.send(Packet::new(REQUEST).giaddr(RELAY).ip(50, ip).ip(54, SERVER)).kind(), Some(MessageType::Ack));
    assert_eq!(bench.send(Packet::new(REQUEST).ip(50, ip)).kind(), Some(MessageType::Nak));

    // RFC 2131 §4.3.2: the relay is to broadcast a DHCPNAK.
    let nak = bench.send(Packet::new(REQUEST).giaddr(RELAY).ip(50, host(3)));
    assert_eq!((nak.kind(), nak.reply().unwrap().to), (Some(MessageType::Nak), Destination::Relay(RELAY)));
    assert!(nak.message().unwrap().flags().broadcast());

    // A relay of a subnet that is not ours to serve.
    let stranger = bench.send(Packet::new(DISCOVER).giaddr(Ipv4Addr::new(172, 16, 0, 1)));
    assert!(stranger.0.contains(&Action::UnknownLink(Ipv4Addr::new(172, 16, 0, 1))));
    assert_eq!(stranger.kind(), None);
}

#[test]
fn a_raspberry_pi_that_sends_no_request_is_registered_at_its_offer() {
    let pi = MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3]);
    let vci = b"PXEClient:Arch:00000:UNDI:002001";
    let discover = || Packet::new(DISCOVER).mac(pi).option(60, vci).option(93, &[0, 0]);
    let mut bench = Bench::new(&[]);
    let ip = bench.send(discover()).probed().unwrap();
    let offer = bench.silent(ip);
    assert_eq!((offer.kind(), offer.change()), (Some(MessageType::Offer), Some((pi, Some(ip)))));
    let event = offer.lease_event().unwrap();
    assert_eq!((event.mac, event.ip, event.vci.as_bytes()), (pi, ip, &vci[..]));
    assert_eq!(offer.option(OptionCode::ClassIdentifier), Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec())));
    let menu = Client::RaspberryPi.vendor_options().unwrap().to_vec();
    assert_eq!(offer.option(OptionCode::VendorExtensions), Some(&DhcpOption::VendorExtensions(menu)));
    assert!(offer.message().unwrap().fname().is_none());
    assert_eq!(offer.board(), Some((pi, BoardSeen::Firmware(ip))), "known to TFTP before the offer is out");
    // The same transaction id on every boot.
    assert_eq!(bench.send(discover()).message().unwrap().yiaddr(), ip);
}

#[test]
fn a_board_is_followed_from_its_firmware_to_its_system() {
    let pi = MacAddr([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let message = |kind: u8| Packet::new(kind).mac(pi);
    let mut bench = Bench::new(&[(pi, host(42))]);
    let firmware = bench.send(message(DISCOVER).option(60, b"PXEClient:Arch:00000:UNDI:002001").option(93, &[0, 0]));
    assert_eq!(firmware.board(), Some((pi, BoardSeen::Firmware(host(42)))));
    // rpi-eeprom issue 82: no option 60 in the request.
    let request = bench.send(message(REQUEST).ip(50, host(42)).ip(54, SERVER));
    assert_eq!((request.kind(), request.board()), (Some(MessageType::Ack), None));
    let uboot = bench.send(message(DISCOVER).option(60, b"U-Boot.armv8"));
    assert_eq!((uboot.kind(), uboot.board()), (Some(MessageType::Offer), None));
    let script = bench.send(message(DISCOVER).option(60, b"walt.node.rpi-4-b"));
    assert_eq!(script.board(), Some((pi, BoardSeen::Bootloader)));
    let linux = bench.send(message(DISCOVER));
    assert_eq!(linux.board(), Some((pi, BoardSeen::System)));
}

#[test]
fn no_boot_begins_while_the_server_stops_and_those_under_way_go_on() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    bench.closing = true;
    for (vci, arch, answered) in [
        (&b"PXEClient:Arch:00000:UNDI:002001"[..], 0, false),
        (b"PXEClient:Arch:00007:UNDI:003016", 7, false),
        (b"HTTPClient:Arch:00016:UNDI:003001", 16, false),
        (b"U-Boot.armv8", 0, true),
        (b"walt.node.rpi-3-b", 0, true),
        (b"MSFT 5.0", 0, true),
    ] {
        let outcome = bench.send(Packet::new(DISCOVER).option(60, vci).option(93, &[0, arch]));
        assert_eq!(outcome.reply().is_some(), answered, "{}", String::from_utf8_lossy(vci));
        assert_eq!(outcome.events()[0], "discover");
    }
}

#[test]
fn a_pxe_client_need_not_wait_for_a_proxy() {
    let mut bench = Bench::new(&[(MAC, host(42))]);
    let discover = Packet::new(DISCOVER).option(60, b"PXEClient:Arch:00007:UNDI:003016").option(93, &[0, 7]);
    let offer = bench.send(discover.option(97, b"\0uuid"));
    assert_eq!(offer.option(OptionCode::ClassIdentifier), Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec())));
    assert_eq!(offer.option(OptionCode::VendorExtensions), Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255])));
    assert_eq!(
        offer.option(OptionCode::ClientMachineIdentifier),
        Some(&DhcpOption::ClientMachineIdentifier(b"\0uuid".to_vec()))
    );
    assert_eq!(offer.option(OptionCode::BootfileName), Some(&DhcpOption::BootfileName(b"pxe/snponly.efi".to_vec())));
    assert_eq!(offer.message().unwrap().fname(), Some(&b"pxe/snponly.efi"[..]));
    let ipxe = bench.send(Packet::new(DISCOVER).option(77, b"walt.node.pc-x86-64").option(175, &[1, 1, 1]));
    let raw = ipxe.reply().unwrap().clone().encode().unwrap();
    assert!(raw.windows(5).any(|bytes| bytes == [175, 3, 176, 1, 1]), "no-pxedhcp");
}

#[test]
fn rfc951_3_a_reply_has_300_bytes_and_rfc2131_2_no_more_than_its_client_takes() {
    let nak = Bench::new(&[]).send(Packet::new(REQUEST).ip(50, Ipv4Addr::new(10, 0, 0, 5)));
    assert_eq!(nak.reply().unwrap().clone().encode().unwrap().len(), 300);

    let mut bench = Bench::new(&[(MAC, host(42))]);
    bench.settings.domain = Some("d".repeat(120));
    let large = |max: &[u8]| Packet::new(DISCOVER).giaddr(host(2)).option(82, &[7; 200]).option(57, max);
    let bytes = |outcome: Outcome| outcome.reply().unwrap().clone().encode().unwrap();
    let narrow = bytes(bench.send(large(&[2, 64])));
    assert!(narrow.len() <= 548, "{}", narrow.len());
    let decoded = Message::decode(&mut Decoder::new(&narrow)).unwrap();
    assert!(decoded.opts().get(OptionCode::DomainName).is_none());
    assert!(
        decoded.opts().get(OptionCode::SubnetMask).is_some()
            && decoded.opts().get(OptionCode::AddressLeaseTime).is_some()
    );
    let wide = bytes(bench.send(large(&[5, 192])));
    assert!(wide.len() > 548, "{}", wide.len());
    // Less than the minimum counts as the minimum.
    assert_eq!(bytes(bench.send(large(&[0, 1]))), narrow);

    // Nor does a hostile client make us send what no frame can carry.
    let hostile = large(&[255, 255]).option(82, &[7; 255]).option(82, &[7; 255]);
    let hostile = (0..4).fold(hostile, |packet, _| packet.option(61, &[9; 255]));
    let without_id = bytes(bench.send(hostile.clone()));
    assert!((548..=1472).contains(&without_id.len()), "{}", without_id.len());
    let hopeless = (0..4).fold(hostile, |packet, _| packet.option(82, &[7; 255]));
    let reply = bench.send(hopeless).reply().unwrap().clone();
    assert!(matches!(reply.encode(), Err(ReplyError::TooLarge(_))));
}
