//! Queries: bytes in, a [`Request`] or an error code out.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

/// Length of the header (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;
/// What fits into a UDP answer without EDNS (RFC 1035 §4.2.1).
const PLAIN_UDP: u16 = 512;
/// What we send over UDP at most: no link fragments it (RFC 9715 §3.2 and the DNS flag day of 2020 say 1232).
pub(super) const MAX_UDP: u16 = 1232;

/// What a query came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// A query with one question, of a kind that can be answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Header.
    pub(super) metadata: Metadata,
    /// What is asked.
    pub(super) question: Query,
    /// EDNS (RFC 6891), if the client speaks it.
    pub(super) edns: Option<Edns>,
    /// What it came by.
    pub(super) transport: Transport,
}

/// Why a message is no [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It gets no answer: it is shorter than a header, or an answer itself.
    Silent,
    /// It makes no sense; the answer says so.
    Malformed(Vec<u8>),
    /// It is not for us; the answer says so.
    Refused(Vec<u8>),
}

impl Request {
    /// Parses the bytes of a message.
    pub(super) fn parse(bytes: &[u8], transport: Transport) -> Result<Self, Rejection> {
        let Some((&[id_high, id_low, flags, _, counts @ ..], _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Rejection::Silent);
        };
        // An answer to an answer would go on for ever.
        if flags & 0x80 != 0 {
            return Err(Rejection::Silent);
        }
        let id = u16::from_be_bytes([id_high, id_low]);
        let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
        let bare = |code| encode(&Message::error_msg(id, op_code, code));
        if op_code != OpCode::Query {
            return Err(Rejection::Refused(bare(ResponseCode::NotImp)));
        }
        // RFC 9619 §4: one question. It is checked before anything is decoded: the codec makes room by what is said here.
        // Answers have no place in a query, and EDNS and a signature are all that comes after it.
        let [0, 1, 0, 0, 0, 0, 0, 0..=2] = counts else {
            return Err(Rejection::Malformed(bare(ResponseCode::FormErr)));
        };
        let Ok(Message { metadata, queries, edns, .. }) = Message::from_vec(bytes) else {
            return Err(Rejection::Malformed(bare(ResponseCode::FormErr)));
        };
        let Some(question) = queries.into_iter().next() else {
            return Err(Rejection::Malformed(bare(ResponseCode::FormErr)));
        };
        let request = Self { metadata, question, edns, transport };
        let refuse = |code| Err(Rejection::Refused(request.finish(request.reply(code))));
        // RFC 6891 §6.1.3.
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return refuse(ResponseCode::BADVERS);
        }
        if request.question.query_class != DNSClass::IN {
            return refuse(ResponseCode::Refused);
        }
        match request.question.query_type {
            // RFC 5936 §2.2.1: nobody is to have it all.
            RecordType::AXFR | RecordType::IXFR => refuse(ResponseCode::Refused),
            RecordType::OPT | RecordType::TSIG => refuse(ResponseCode::FormErr),
            _ => Ok(request),
        }
    }

    /// An answer without records.
    pub(super) fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(0, OpCode::Query);
        reply.metadata = Metadata::response_from_request(&self.metadata);
        reply.metadata.response_code = code;
        reply.add_query(self.question.clone());
        // RFC 6891 §6.1.1: whoever speaks EDNS is answered in EDNS, nobody else.
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
            reply.set_edns(edns);
        }
        reply
    }

    /// The bytes of an answer, which says if it is not all there.
    pub(super) fn finish(&self, reply: Message) -> Vec<u8> {
        let bytes = encode(&reply);
        if bytes.len() > self.limit() { encode(&reply.truncate()) } else { bytes }
    }

    /// Bytes that the client takes.
    pub(super) fn limit(&self) -> usize {
        match self.transport {
            Transport::Udp => usize::from(self.payload()),
            Transport::Tcp => usize::from(u16::MAX),
        }
    }

    /// Bytes that the client takes over UDP, within our own limit.
    pub(super) fn payload(&self) -> u16 {
        self.edns.as_ref().map_or(PLAIN_UDP, |edns| edns.max_payload().clamp(PLAIN_UDP, MAX_UDP))
    }

    /// The question that another name server is asked for this client: what concerns the link to us (other options of
    /// EDNS) stays here.
    pub(super) fn question_for(&self, id: u16) -> Vec<u8> {
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.metadata.checking_disabled = self.metadata.checking_disabled;
        query.metadata.authentic_data = self.metadata.authentic_data;
        query.add_query(self.question.clone());
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(self.payload()).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
            query.set_edns(edns);
        }
        encode(&query)
    }
}

/// What we make ourselves has a name and a handful of records in it: it always fits. If the codec disagrees, the client
/// hears nothing and asks again.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}
