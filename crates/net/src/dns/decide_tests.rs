use hickory_proto::op::{Edns, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name};

use super::*;
use crate::dns::Network;
use crate::{Device, MacAddr};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Behind NAT.
const ADA: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// Not behind NAT.
const BOB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
/// Behind a relay agent.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 3, 7);

fn zone() -> Zone {
    let networks = [(SERVER, 24), (Ipv4Addr::new(10, 9, 0, 1), 16)];
    let networks = networks.map(|(address, prefix)| Network { address, prefix }).to_vec();
    Zone::new("walt", SERVER, networks).unwrap()
}

fn devices() -> Devices {
    let devices = Devices::default();
    let never_on = Ipv4Addr::UNSPECIFIED;
    for (end, ip, name, behind_nat) in
        [(4, never_on, "new", true), (1, ADA, "ada", true), (2, BOB, "bob", false), (3, FAR, "far", false)]
    {
        devices.set(Device { mac: MacAddr([2, 0, 0, 0, 0, end]), ip, name: name.into(), behind_nat });
    }
    devices
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(0).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn decide(message: &Message, client: Ipv4Addr) -> Decision {
    handle(&zone(), &devices(), &message.to_vec().unwrap(), client, Transport::Udp)
}

/// The answer, as `CODE [aa] records`, authorities in brackets.
fn answer(name: &str, kind: RecordType, client: Ipv4Addr) -> String {
    let bytes = match decide(&query(name, kind), client) {
        Decision::Answer(bytes) | Decision::Refused(bytes) => bytes,
        Decision::Forward(_) => return "forward".into(),
        other => panic!("{other:?}"),
    };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!((reply.metadata.id, reply.metadata.message_type), (0x1234, MessageType::Response));
    // As it was asked, to the letter: some resolvers put chance into upper and lower case.
    assert_eq!(reply.queries[0].name.to_ascii(), name);
    assert!(reply.edns.is_none(), "the client does not speak it");
    let mut text = format!("{:?}", reply.metadata.response_code);
    if reply.metadata.authoritative {
        text += " aa";
    }
    for record in &reply.answers {
        assert_eq!(record.ttl, 0, "a rename is visible at once");
        text += &format!(" {}", record.data);
    }
    for record in &reply.authorities {
        text += &format!(" [{} {}]", record.name, record.record_type());
    }
    text
}

#[test]
fn names_of_the_platform() {
    use RecordType::{A, AAAA, ANY, MX, NS, PTR, SOA, TXT};
    for (name, kind, expected) in [
        // By name alone, and in the domain; in any case (RFC 4343 §3).
        ("ada.", A, "NoError aa 10.0.0.5"),
        ("ada.walt.", A, "NoError aa 10.0.0.5"),
        ("Bob.WALT.", A, "NoError aa 10.0.0.6"),
        ("far.walt.", ANY, "NoError aa 10.9.3.7"),
        ("server.", A, "NoError aa 10.0.0.1"),
        ("walt-server.walt.", A, "NoError aa 10.0.0.1"),
        ("localhost.", A, "NoError aa 127.0.0.1"),
        // RFC 2308 §2.2: no data of this kind.
        ("ada.walt.", AAAA, "NoError aa [walt. SOA]"),
        ("ada.walt.", MX, "NoError aa [walt. SOA]"),
        ("ada.", AAAA, "NoError aa"),
        // RFC 2308 §2.1: no such name.
        ("eve.walt.", A, "NXDomain aa [walt. SOA]"),
        ("new.walt.", A, "NXDomain aa [walt. SOA]"),
        ("eve.walt.", TXT, "NXDomain aa [walt. SOA]"),
        ("a.ada.walt.", A, "NXDomain aa [walt. SOA]"),
        ("*.walt.", A, "NXDomain aa [walt. SOA]"),
        ("eve.", A, "NXDomain aa"),
        // The domain itself.
        ("walt.", A, "NoError aa 10.0.0.1"),
        ("walt.", NS, "NoError aa walt-server.walt."),
        ("walt.", MX, "NoError aa [walt. SOA]"),
        ("walt.", SOA, "NoError aa walt-server.walt. hostmaster.walt. 1 3600 600 86400 0"),
        // RFC 1035 §3.5: names of addresses.
        ("5.0.0.10.in-addr.arpa.", PTR, "NoError aa ada.walt."),
        ("1.0.0.10.in-addr.arpa.", PTR, "NoError aa walt-server.walt."),
        ("7.3.9.10.IN-ADDR.ARPA.", PTR, "NoError aa far.walt."),
        ("9.0.0.10.in-addr.arpa.", PTR, "NXDomain aa [0.0.10.in-addr.arpa. SOA]"),
        ("9.9.9.10.in-addr.arpa.", PTR, "NXDomain aa [9.10.in-addr.arpa. SOA]"),
        ("0.0.10.in-addr.arpa.", NS, "NoError aa [0.0.10.in-addr.arpa. SOA]"),
    ] {
        for client in [ADA, BOB, FAR, SERVER] {
            assert_eq!(answer(name, kind, client), expected, "{name} {kind} {client}");
        }
    }
}

#[test]
fn other_names_are_for_devices_behind_nat_alone() {
    use RecordType::{A, DS, NS, PTR, SOA};
    for (name, kind) in [
        ("example.org.", A),
        ("ada.example.org.", A),
        ("org.", NS),
        ("org.", DS),
        (".", NS),
        ("10.in-addr.arpa.", SOA),
        ("1.1.1.1.in-addr.arpa.", PTR),
        ("x.1.1.1.in-addr.arpa.", PTR),
        ("1.5.0.0.10.in-addr.arpa.", PTR),
    ] {
        assert_eq!(answer(name, kind, ADA), "forward", "{name} {kind}");
        for client in [BOB, FAR, SERVER, Ipv4Addr::new(10, 0, 0, 99)] {
            assert_eq!(answer(name, kind, client), "NXDomain", "{name} {kind} {client}");
        }
    }
    // RFC 1034 §4.3.1: recursion is a thing that is asked for.
    let mut direct = query("example.org.", A);
    direct.metadata.recursion_desired = false;
    let Decision::Refused(bytes) = decide(&direct, ADA) else { panic!("forwarded") };
    assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::Refused);
}

#[test]
fn strangers_hear_nothing() {
    for stranger in [Ipv4Addr::new(10, 0, 1, 5), Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1)] {
        assert!(matches!(decide(&query("ada.", RecordType::A), stranger), Decision::Stranger), "{stranger}");
    }
}

#[test]
fn rfc_6891_edns_is_answered_to_those_who_speak_it() {
    let reply = |message: &Message| match decide(message, BOB) {
        Decision::Answer(bytes) | Decision::Refused(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    let known = reply(&with_edns(query("ada.", RecordType::A), 4096));
    let edns = known.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, true));
    // RFC 8914: why there is no answer.
    let other = reply(&with_edns(query("example.org.", RecordType::A), 4096)).edns.unwrap();
    let Some(EdnsOption::Unknown(15, why)) = other.option(EXTENDED_ERROR.into()) else { panic!("{other:?}") };
    assert!(why.starts_with(&[0, 18]) && why.ends_with(b"netsetup=NAT reach other networks"));
    // §6.1.3: a version that we do not know.
    let mut newer = with_edns(query("ada.", RecordType::A), 4096);
    newer.edns.as_mut().unwrap().set_version(1);
    // 16 is BADSIG, too.
    assert_eq!(u16::from(reply(&newer).metadata.response_code), 16);
}

#[test]
fn what_is_not_served_is_refused_and_what_makes_no_sense_is_told() {
    let code = |bytes: &[u8]| match handle(&zone(), &devices(), bytes, ADA, Transport::Udp) {
        Decision::Refused(answer) => (true, Message::from_vec(&answer).unwrap().metadata.response_code),
        Decision::Malformed(Some(answer)) => {
            assert_eq!(answer.len(), 12, "a header, shorter than what was sent");
            (false, Message::from_vec(&answer).unwrap().metadata.response_code)
        }
        other => panic!("{other:?}"),
    };
    let ask = |change: &dyn Fn(&mut Message)| {
        let mut message = query("ada.", RecordType::A);
        change(&mut message);
        code(&message.to_vec().unwrap())
    };
    let (refused, malformed) = (|code| (true, code), |code| (false, code));
    // RFC 1035 §4.1.1: kinds of queries. RFC 5936 §2.2.1: transfers.
    assert_eq!(ask(&|m| m.metadata.op_code = OpCode::Notify), refused(ResponseCode::NotImp));
    assert_eq!(ask(&|m| m.metadata.op_code = OpCode::Update), refused(ResponseCode::NotImp));
    assert_eq!(ask(&|m| m.queries[0].query_class = DNSClass::CH), refused(ResponseCode::Refused));
    assert_eq!(ask(&|m| m.queries[0].query_type = RecordType::AXFR), refused(ResponseCode::Refused));
    assert_eq!(ask(&|m| m.queries[0].query_type = RecordType::TSIG), refused(ResponseCode::FormErr));
    // RFC 9619 §4: one question.
    assert_eq!(ask(&|m| m.queries.clear()), malformed(ResponseCode::FormErr));
    assert_eq!(ask(&|m| m.queries.push(m.queries[0].clone())), malformed(ResponseCode::FormErr));
    let mut bytes = query("ada.", RecordType::A).to_vec().unwrap();
    bytes.truncate(20);
    assert_eq!(code(&bytes), malformed(ResponseCode::FormErr));
    // A name that points to itself (RFC 1035 §4.1.4).
    bytes.truncate(12);
    bytes.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(code(&bytes), malformed(ResponseCode::FormErr));
    // 65,535 questions in 12 bytes.
    bytes.truncate(12);
    bytes[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(code(&bytes), malformed(ResponseCode::FormErr));
    // An answer, and what is no message: two servers must not talk for ever.
    for silent in [&[0x12, 0x34, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0; 11], &[]] {
        assert!(matches!(handle(&zone(), &devices(), silent, ADA, Transport::Udp), Decision::Malformed(None)));
    }
}

#[test]
fn no_message_breaks_it_or_gets_much_more_than_it_sent() {
    let samples = [
        query("ada.walt.", RecordType::A),
        with_edns(query("example.org.", RecordType::ANY), 65_535),
        with_edns(query("5.0.0.10.in-addr.arpa.", RecordType::PTR), 0),
    ];
    let (zone, devices) = (zone(), devices());
    // xorshift64: the same bytes in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut kinds = [0; 4];
    for round in 0..40_000 {
        let mut bytes = samples[round % samples.len()].to_vec().unwrap();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if random(8) == 0 {
            bytes.truncate(random(bytes.len() + 1));
        }
        let (client, transport) = ([ADA, BOB][random(2)], [Transport::Udp, Transport::Tcp][random(2)]);
        let reply = match handle(&zone, &devices, &bytes, client, transport) {
            Decision::Stranger => panic!("it is none"),
            Decision::Malformed(reply) => (0, reply),
            Decision::Refused(reply) => (1, Some(reply)),
            Decision::Answer(reply) => (2, Some(reply)),
            Decision::Forward(request) => {
                assert!(client == ADA);
                let question = request.question_for(7);
                assert!(question.len() <= bytes.len() + 11, "{bytes:?}");
                (3, None)
            }
        };
        kinds[reply.0] += 1;
        let Some(reply) = reply.1 else { continue };
        assert!((12..=512).contains(&reply.len()) && reply.len() <= bytes.len() + 140, "{bytes:?}: {reply:?}");
        assert!(Message::from_vec(&reply).is_ok(), "{bytes:?}: {reply:?}");
        assert!(matches!(handle(&zone, &devices, &reply, client, transport), Decision::Malformed(None)));
    }
    assert!(kinds.iter().all(|count| *count > 200), "{kinds:?}");
}
