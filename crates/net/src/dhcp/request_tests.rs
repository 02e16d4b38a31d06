use super::super::testing::{MAC, Packet};
use super::*;

#[test]
fn the_fields_of_a_discover() {
    let request = Packet::new(1)
        .option(60, b"PXEClient:Arch:00000:UNDI:002001")
        .option(93, &[0, 0])
        .option(97, &[0, 1, 2])
        .option(61, &[1, 2, 3])
        .option(12, b"host")
        .option(57, &[5, 192])
        .ip(50, Ipv4Addr::new(10, 0, 0, 5))
        .broadcast()
        .request();
    assert_eq!((request.kind, request.mac, request.xid), (RequestKind::Discover, MAC, 0xcafe_0001));
    assert_eq!(request.flags, 0x8000);
    assert_eq!(request.vci, "PXEClient:Arch:00000:UNDI:002001");
    assert_eq!((request.architecture, request.max_message_size), (Some(0), Some(1472)));
    assert_eq!(request.machine_id.as_deref(), Some(&[0, 1, 2][..]));
    assert_eq!(request.client_id.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!((request.host_name.as_str(), request.requested), ("host", Some(Ipv4Addr::new(10, 0, 0, 5))));
    assert_eq!((request.server_id, request.relay_agent, request.has_ipxe_options), (None, None, false));
}

#[test]
fn what_is_no_client_message_is_refused() {
    let good = Packet::new(1);
    let cases: &[(Vec<u8>, RequestError)] = &[
        (vec![], RequestError::Short(0)),
        (good.bytes()[..239].to_vec(), RequestError::Short(239)),
        (good.clone().at(0, &[2]).bytes(), RequestError::NotARequest(2)),
        (good.clone().at(236, &[0]).bytes(), RequestError::NotDhcp),
        (good.bytes()[..240].to_vec(), RequestError::NotDhcp),
        (good.clone().at(1, &[6]).bytes(), RequestError::HardwareAddress),
        // The codec slices by this length: above 16 it would read the options, above the packet it would panic.
        (good.clone().at(2, &[255]).bytes(), RequestError::HardwareAddress),
        (good.clone().at(2, &[0]).bytes(), RequestError::HardwareAddress),
        (good.clone().mac(MacAddr([0; 6])).bytes(), RequestError::HardwareAddress),
        (good.clone().mac(MacAddr([0xff; 6])).bytes(), RequestError::HardwareAddress),
        (Packet::new(2).bytes(), RequestError::Kind(2)),
        (Packet::new(0).bytes(), RequestError::Kind(0)),
        (Packet::new(200).bytes(), RequestError::Kind(200)),
        // Twice the option is one value of two bytes (RFC 3396).
        (good.clone().option(53, &[1]).bytes(), RequestError::NotDhcp),
    ];
    for (bytes, error) in cases {
        assert_eq!(Request::parse(bytes), Err(*error), "{bytes:?}");
    }
}

#[test]
fn an_option_of_a_wrong_length_hides_no_other() {
    let request = Packet::new(1)
        .option(50, &[10, 0])
        .option(54, &[])
        .option(57, &[1])
        .option(93, &[])
        .option(81, &[0])
        .option(80, &[1, 2])
        .option(151, &[])
        .option(12, &[0xff, 0xfe, b'x', 0, 0])
        .option(60, b"walt.node.pc-x86-64")
        .request();
    assert_eq!((request.requested, request.server_id), (None, None));
    assert_eq!((request.max_message_size, request.architecture), (None, None));
    assert_eq!(request.host_name, "\u{fffd}\u{fffd}x");
    assert_eq!(request.vci, "walt.node.pc-x86-64");
}

#[test]
fn an_option_cut_by_the_end_of_the_packet_is_dropped() {
    let mut bytes = Packet::new(1).option(60, b"PXEClient").bytes();
    bytes.pop();
    bytes.extend_from_slice(&[12, 200, b'x']);
    let request = Request::parse(&bytes).unwrap();
    assert_eq!((request.vci.as_str(), request.host_name.as_str()), ("PXEClient", ""));
}

#[test]
fn rfc3396_5_parts_of_a_long_option_are_joined_also_when_apart() {
    let long = [b'a'; 255];
    let request = Packet::new(1).option(60, &long).option(12, b"h").option(60, b"bc").request();
    assert_eq!(request.vci.len(), 257);
    assert!(request.vci.ends_with("abc"));
    assert_eq!(request.host_name, "h");
}

#[test]
fn rfc2132_9_3_options_in_file_and_sname() {
    let file = [&[60, 3, b'p', b'x', b'e', 255][..], &[0; 122]].concat();
    let sname = [&[77, 4, b'i', b'P', b'X', b'E', 255][..], &[0; 57]].concat();
    let packet = |overload: u8| Packet::new(1).at(108, &file).at(44, &sname).option(52, &[overload]).request();
    let classes = |request: Request| (request.vci, request.uci);
    assert_eq!(classes(packet(0)), (String::new(), String::new()));
    assert_eq!(classes(packet(1)), ("pxe".into(), String::new()));
    assert_eq!(classes(packet(2)), (String::new(), "iPXE".into()));
    assert_eq!(classes(packet(3)), ("pxe".into(), "iPXE".into()));
    // RFC 3396 §5: options, then file, then sname.
    let joined = Packet::new(1).at(108, &file).option(60, b"a-").option(52, &[1]).request();
    assert_eq!(joined.vci, "a-pxe");
}

#[test]
fn rfc3004_4_user_classes_with_and_without_lengths() {
    let uci = |value: &[u8]| Packet::new(1).option(77, value).request().uci;
    assert_eq!(uci(b"iPXE"), "iPXE");
    assert_eq!(uci(b"\x04iPXE"), "iPXE");
    assert_eq!(uci(b"walt.node.pc-x86-64"), "walt.node.pc-x86-64");
    assert_eq!(uci(b"\x13walt.node.pc-x86-64"), "walt.node.pc-x86-64");
    assert_eq!(uci(b"\x04iPXE\x03lab"), "iPXE,lab");
    assert_eq!(uci(b"\x04iPX"), "\u{4}iPX");
    assert_eq!(uci(b"iPXE\0"), "iPXE");
    assert_eq!(uci(b""), "");
}

#[test]
fn rfc3527_3_link_selection_names_the_subnet() {
    let relay = Ipv4Addr::new(10, 1, 0, 1);
    let link = |agent: &[u8]| Packet::new(1).giaddr(relay).option(82, agent).request().link();
    assert_eq!(link(&[1, 2, b'e', b'0']), relay);
    assert_eq!(link(&[1, 2, b'e', b'0', 5, 4, 10, 2, 0, 0]), Ipv4Addr::new(10, 2, 0, 0));
    assert_eq!(link(&[5, 4, 10, 2]), relay);
    assert_eq!(link(&[5, 3, 10, 2, 0]), relay);
    // A client without a relay has no say in it.
    assert!(Packet::new(1).option(82, &[5, 4, 10, 2, 0, 0]).request().link().is_unspecified());
}
