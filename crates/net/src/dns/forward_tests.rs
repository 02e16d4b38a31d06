use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::TcpListener;

use super::*;

fn request(transport: Transport, payload: Option<u16>) -> Request {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii("Example.org.").unwrap(), RecordType::A));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        query.set_edns(edns);
    }
    Request::parse(&query.to_vec().unwrap(), transport).unwrap()
}

/// An answer with so many addresses.
fn answer(query: &[u8], addresses: u8) -> Message {
    let query = Message::from_vec(query).unwrap();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    answer.add_query(query.queries[0].clone());
    let name = query.queries[0].name.clone();
    let record = |last| Record::from_rdata(name.clone(), 60, RData::A(A([192, 0, 2, last].into())));
    answer.add_answers((0..addresses).map(record));
    answer
}

/// A name server of which each datagram is answered by what `answers` makes of it.
async fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in answers(&buffer[..length]) {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    address
}

fn forwarder(servers: &[SocketAddr]) -> Forwarder {
    Forwarder::new(Resolvers::Fixed(Arc::from(servers)))
}

fn parsed(result: Result<Vec<u8>, Vec<u8>>) -> (bool, Message) {
    let good = result.is_ok();
    (good, Message::from_vec(&result.unwrap_or_else(|failure| failure)).unwrap())
}

#[tokio::test]
async fn rfc_5452_the_right_answer_is_waited_for() {
    let address = server(|query| {
        let right = answer(query, 1).to_vec().unwrap();
        let changed = |at: usize, value: u8| {
            let mut wrong = right.clone();
            wrong[at] ^= value;
            wrong
        };
        // Another number; a question; another name; another type; none; and half a header.
        vec![
            changed(0, 1),
            changed(2, 0x80),
            changed(14, 1),
            changed(12 + 13 + 1, 2),
            changed(5, 1),
            right[..7].to_vec(),
            vec![],
            right,
        ]
    })
    .await;
    let (good, message) = parsed(forwarder(&[address]).resolve(&request(Transport::Udp, None)).await);
    assert!(good);
    assert_eq!((message.metadata.id, message.answers.len()), (77, 1));
    assert!(!message.metadata.authoritative && message.metadata.recursion_available);
    assert_eq!(message.queries[0].name.to_ascii(), "Example.org.");
}

#[tokio::test]
async fn the_next_server_is_asked_and_remembered() {
    let mute = server(|_| vec![]).await;
    let unable = server(|query| {
        let mut answer = answer(query, 0);
        answer.metadata.response_code = ResponseCode::ServFail;
        vec![answer.to_vec().unwrap()]
    })
    .await;
    let able = server(|query| vec![answer(query, 2).to_vec().unwrap()]).await;
    let forwarder = forwarder(&[mute, unable, able]);
    let (good, message) = parsed(forwarder.resolve(&request(Transport::Udp, None)).await);
    assert!(good && message.answers.len() == 2);
    let begun = Instant::now();
    assert!(forwarder.resolve(&request(Transport::Udp, None)).await.is_ok());
    assert!(begun.elapsed() < ATTEMPT / 2, "the one that answered goes first");
}

#[tokio::test]
async fn failures_come_before_the_client_asks_again() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (servers, limit) in [(vec![], 1), (vec![closed], 1), (vec![server(|_| vec![]).await; 3], 5)] {
        let begun = Instant::now();
        let (good, message) = parsed(forwarder(&servers).resolve(&request(Transport::Udp, Some(1232))).await);
        assert!(!good && message.metadata.response_code == ResponseCode::ServFail, "{servers:?}");
        assert!(message.edns.is_some() && message.metadata.id == 77);
        assert!(begun.elapsed() < Duration::from_secs(limit), "{servers:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn rfc_7766_long_answers_come_over_tcp() {
    // The same port for both.
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let mut cut = answer(&buffer[..length], 0);
            cut.metadata.truncation = true;
            udp.send_to(&cut.to_vec().unwrap(), client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let whole = answer(&query, 200).to_vec().unwrap();
            stream.write_u16(whole.len() as u16).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        }
    });
    let forwarder = forwarder(&[address]);
    let (good, message) = parsed(forwarder.resolve(&request(Transport::Tcp, None)).await);
    assert!(good && message.answers.len() == 200 && !message.metadata.truncation);
    // A client that asked by datagram is told to come again.
    let (good, message) = parsed(forwarder.resolve(&request(Transport::Udp, Some(4096))).await);
    assert!(good && message.metadata.truncation && message.answers.is_empty());
}

#[tokio::test]
async fn a_server_that_sends_more_than_was_asked_for_is_cut() {
    let talkative = server(|query| vec![answer(query, 100).to_vec().unwrap()]).await;
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(1000), 1000), (Some(65_535), 1232)] {
        let answer = forwarder(&[talkative]).resolve(&request(Transport::Udp, payload)).await.unwrap();
        assert!(answer.len() <= limit);
        assert!(Message::from_vec(&answer).unwrap().metadata.truncation, "{payload:?}");
    }
}
