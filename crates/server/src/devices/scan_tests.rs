use super::*;

fn bytes(text: &[u8]) -> Value {
    Value::OctetString(text.to_vec().into())
}

fn number(number: i32) -> Value {
    Value::Integer(number)
}

/// A switch whose ports are 1 and 2 in the bridge and in LLDP, and 101 and 102 among its interfaces.
fn tables() -> Tables {
    let node: [u32; 6] = [2, 0, 0, 0, 0, 1];
    let neighbour = |column: u32, port: u32, value| (vec![column, 7, port, 1], value);
    Tables {
        name: Some(bytes(b"rack")),
        bridge_address: Some(bytes(&[2, 0, 0, 0, 9, 9])),
        chassis: Some((number(4), bytes(&[2, 0, 0, 0, 9, 8]))),
        if_names: vec![(vec![101], bytes(b"gi1")), (vec![102], bytes(b"gi2"))],
        bridge_ports: vec![(vec![1], number(101)), (vec![2], number(102))],
        fdb: vec![
            (node.to_vec(), number(1)),
            (vec![2, 0, 0, 0, 9, 9], number(1)),
            (vec![1, 0, 0x5e, 0, 0, 1], number(1)),
            (vec![2, 0, 0, 0, 0, 5], number(0)),
            (vec![2, 0, 0, 0, 0, 300], number(1)),
        ],
        vlan_fdb: vec![([&[10], &node[..]].concat(), number(1)), (vec![10, 2, 0, 0, 0, 0, 2], number(2))],
        lldp_ports: vec![
            (vec![2, 1], number(7)),
            (vec![2, 2], number(3)),
            (vec![3, 1], bytes(b"1")),
            (vec![3, 2], bytes(&[2, 0, 0, 0, 9, 2])),
        ],
        neighbours: vec![
            neighbour(4, 2, number(4)),
            neighbour(5, 2, bytes(&[2, 0, 0, 0, 8, 8])),
            neighbour(6, 2, number(5)),
            neighbour(7, 2, bytes(b"uplink")),
            neighbour(9, 2, bytes(b"core\x07")),
            neighbour(12, 2, bytes(&[0b0010_1000, 0])),
            // Without its port: nothing can be said of it.
            neighbour(5, 1, bytes(b"half")),
        ],
        addresses: vec![(vec![7, 2, 1, 1, 4, 10, 9, 8, 2], number(1)), (vec![7, 2, 1, 2, 16], number(1))],
    }
}

#[test]
fn ports_are_known_by_one_number_whatever_table_they_are_in() {
    let scan = Scan::of(&tables());
    assert_eq!(scan.name, "rack");
    assert_eq!(scan.own, BTreeSet::from([MacAddr([2, 0, 0, 0, 9, 9]), MacAddr([2, 0, 0, 0, 9, 8])]));
    assert_eq!(scan.learned[&101], BTreeSet::from([MacAddr([2, 0, 0, 0, 0, 1])]));
    assert_eq!(scan.learned[&102], BTreeSet::from([MacAddr([2, 0, 0, 0, 0, 2])]));
    assert_eq!(scan.learned.len(), 2);
    let [(102, core)] = &scan.neighbours[..] else { panic!("{:?}", scan.neighbours) };
    assert!(core.is_bridge());
    assert_eq!((core.system_name.as_str(), core.management), ("core", Some([10, 9, 8, 2].into())));
    assert_eq!((scan.port_named("1"), scan.port_named("gi2")), (Some(101), Some(102)));
    assert_eq!(scan.port_named("02:00:00:00:09:02"), Some(102));
    assert_eq!((scan.name_of(101), scan.name_of(7)), ("gi1".into(), "7".into()));
}

#[test]
fn a_switch_that_has_no_names_for_its_ports_is_understood_too() {
    let bare = Tables { if_names: Vec::new(), bridge_ports: Vec::new(), ..tables() };
    let scan = Scan::of(&bare);
    assert_eq!(scan.learned.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(scan.neighbours[0].0, 2);
    assert_eq!(scan.name_of(1), "1");
}

#[test]
fn the_ports_of_lldp_may_be_named_as_interfaces_and_numbered_otherwise() {
    let mut renumbered = tables();
    renumbered.lldp_ports = vec![(vec![2, 2], number(5)), (vec![3, 2], bytes(b"gi1"))];
    assert_eq!(Scan::of(&renumbered).neighbours[0].0, 101);
}

#[test]
fn nonsense_tells_nothing() {
    let odd = |rows: Rows| rows.into_iter().map(|(key, _)| (key, Value::Null)).collect();
    let tables = tables();
    let nonsense = Tables {
        name: Some(Value::Null),
        bridge_address: Some(bytes(&[1, 2])),
        chassis: Some((Value::Null, Value::Null)),
        fdb: odd(tables.fdb),
        neighbours: odd(tables.neighbours),
        lldp_ports: vec![(Vec::new(), Value::Null), (vec![2], Value::Null), (vec![3, 1, 1], Value::Null)],
        ..Tables::default()
    };
    assert_eq!(Scan::of(&nonsense), Scan::default());
}
