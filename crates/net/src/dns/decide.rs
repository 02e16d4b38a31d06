//! What is answered to a message: a function of the zone, the devices, and the message.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, NS, PTR};
use hickory_proto::rr::{RData, Record, RecordType};

use super::request::Rejection;
use super::zone::{Found, TTL};
use super::{Request, Transport, Zone};
use crate::Devices;

/// What to do about a message.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: it comes from elsewhere.
    Stranger,
    /// It is no query. What is to be said to that, if anything.
    Malformed(Option<Vec<u8>>),
    /// Send this: it is not answered to this client.
    Refused(Vec<u8>),
    /// Send this.
    Answer(Vec<u8>),
    /// Ask another name server.
    Forward(Box<Request>),
}

/// RFC 8914 §4.19: "Prohibited".
const EXTENDED_ERROR_PROHIBITED: [u8; 2] = [0, 18];
/// Code of the option for such errors (RFC 8914 §2).
const EXTENDED_ERROR: u16 = 15;
/// What goes with it, for people who look.
const BEHIND_NO_NAT: &str = "only nodes with netsetup=NAT reach other networks";

/// Decides about one message from `client`.
pub fn handle(zone: &Zone, devices: &Devices, bytes: &[u8], client: Ipv4Addr, transport: Transport) -> Decision {
    if !zone.serves(client) {
        return Decision::Stranger;
    }
    let request = match Request::parse(bytes, transport) {
        Ok(request) => request,
        Err(Rejection::Silent) => return Decision::Malformed(None),
        Err(Rejection::Malformed(answer)) => return Decision::Malformed(Some(answer)),
        Err(Rejection::Refused(answer)) => return Decision::Refused(answer),
    };
    let behind_nat = devices.by_ip(client).is_some_and(|device| device.behind_nat);
    let (name, kind) = (&request.question.name, request.question.query_type);
    let for_address = matches!(kind, RecordType::A | RecordType::AAAA | RecordType::ANY);
    let found = zone.find(devices, name, for_address);
    if found == Found::Elsewhere {
        return elsewhere(request, behind_nat);
    }
    let mut reply = request.reply(if found == Found::Absent { ResponseCode::NXDomain } else { ResponseCode::NoError });
    reply.metadata.authoritative = true;
    // RFC 1035 §4.1.1: whether it can be had, not whether it was needed.
    reply.metadata.recursion_available = behind_nat;
    let data = match (found, kind) {
        // RFC 8482 §4.1: of "any" a part is enough.
        (Found::Address(ip), RecordType::A | RecordType::ANY) => Some(RData::A(A(ip))),
        (Found::Pointer(name), RecordType::PTR | RecordType::ANY) => Some(RData::PTR(PTR(name))),
        (Found::Apex, RecordType::A | RecordType::ANY) => Some(RData::A(A(zone.server()))),
        (Found::Apex, RecordType::NS) => zone.server_name().map(|server| RData::NS(NS(server))),
        (Found::Apex, RecordType::SOA) => zone.authority(name).map(|soa| soa.data),
        _ => None,
    };
    match data {
        Some(data) => reply.answers.push(Record::from_rdata(name.clone(), TTL, data)),
        // RFC 2308 §2.1, §2.2: the name is not there, or nothing of this kind is there under it.
        None => reply.authorities.extend(zone.authority(name)),
    }
    Decision::Answer(request.finish(reply))
}

/// A name that is none of ours.
fn elsewhere(request: Request, behind_nat: bool) -> Decision {
    if behind_nat && request.metadata.recursion_desired {
        return Decision::Forward(Box::new(request));
    }
    if behind_nat {
        return Decision::Refused(request.finish(request.reply(ResponseCode::Refused)));
    }
    // To this device there is no other network, hence no such name. REFUSED would be more honest, but the resolver of musl
    // takes it for no answer at all and waits out its time (10 s a name). Without an authority nobody remembers it (RFC
    // 2308 §5).
    let mut reply = request.reply(ResponseCode::NXDomain);
    explain(&mut reply);
    Decision::Refused(request.finish(reply))
}

/// Says why, to a client that speaks EDNS.
fn explain(reply: &mut Message) {
    if let Some(edns) = &mut reply.edns {
        let text = [&EXTENDED_ERROR_PROHIBITED, BEHIND_NO_NAT.as_bytes()].concat();
        edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, text));
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
