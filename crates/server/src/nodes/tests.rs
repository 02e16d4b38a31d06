use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::NodeState;
use net::{LeaseEvent, MacAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_stream::StreamExt;
use wire::node::Request;

use super::*;
use crate::logs::{self, Filter, Reading, Wanted};
use crate::registration::Input;
use crate::registry::{Issuer, Writer};
use crate::site::for_tests::site;
use crate::site::{Site, now_ms};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// A site with one node at 127.0.0.1 (or without), and its server for agents.
struct Lab {
    site: std::sync::Arc<Site>,
    server: SocketAddr,
    counters: std::sync::Arc<super::server::Counters>,
    netconsole: SocketAddr,
    dir: tempfile::TempDir,
    writer: Option<Writer>,
}

async fn lab(with_node: bool) -> Lab {
    let (site, (dir, writer)) = site().await;
    if with_node {
        let event = LeaseEvent {
            mac: MAC,
            ip: Ipv4Addr::LOCALHOST,
            vci: "walt.node.pc-x86-64".into(),
            uci: String::new(),
            host_name: String::new(),
        };
        site.request(Input::Lease(event)).await.unwrap();
    }
    let server = NodeServer::bind(Ipv4Addr::LOCALHOST, 0).await.unwrap();
    let counters = server.counters();
    let address = server.address().unwrap();
    tokio::spawn(server.run(site.clone()));
    let console = Netconsole::bind(Ipv4Addr::LOCALHOST, 0).await.unwrap();
    let netconsole = console.address().unwrap();
    tokio::spawn(console.run(site.clone()));
    Lab { site, server: address, counters, netconsole, dir, writer: Some(writer) }
}

impl Lab {
    /// Sends `text` on a new connection and reads up to its end.
    async fn exchange(&self, text: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.server).await.unwrap();
        // The server may close before it has read all of it.
        let _ = stream.write_all(text).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    fn state(&self) -> NodeState {
        self.site.state().timeline(MAC).map_or(NodeState::Off, |timeline| timeline.state(now_ms()))
    }

    async fn reaches(&self, state: NodeState) {
        for _ in 0..200 {
            if self.state() == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the node is {:?} and not {state:?}", self.state());
    }

    /// Log lines in the database, as `stream: line`, once they are written.
    fn logs(&mut self) -> Vec<String> {
        self.writer = None;
        let db = rusqlite::Connection::open(self.dir.path().join("walt.db")).unwrap();
        let mut lines =
            db.prepare("SELECT stream || ': ' || line FROM logs WHERE issuer != 'server' ORDER BY id").unwrap();
        lines.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

#[tokio::test]
async fn steps_go_into_the_timeline_and_lines_into_the_registry() {
    let mut lab = lab(true).await;
    let text = "REQ_NEW_INCOMING_LOGS\nwalt-boot\nNO_TIMESTAMPS\n\
        step=union uptime_ms=1500 status=ok detail=overlay\nnonsense\nCLOSE\n";
    lab.exchange(text.as_bytes()).await;
    lab.exchange(b"REQ_NEW_INCOMING_LOGS\napp\nTIMESTAMPS_INSIDE\n17.5 hello\nCLOSE\n").await;
    let steps: Vec<_> = lab.site.state().timeline(MAC).unwrap().steps().unwrap().1.collect();
    let step = steps.iter().find(|step| step.name == "agent:union").unwrap();
    assert_eq!(step.detail, "overlay (kernel up 1.5 s)");
    assert_eq!(
        lab.logs(),
        ["walt-boot: step=union uptime_ms=1500 status=ok detail=overlay", "walt-boot: nonsense", "app: hello"]
    );
}

#[tokio::test]
async fn a_node_is_up_as_long_as_one_of_its_notifications_lasts() {
    let lab = lab(true).await;
    let open = async || {
        let mut stream = TcpStream::connect(lab.server).await.unwrap();
        stream.write_all(b"REQ_NOTIFY_BOOTUP_STATUS\n").await.unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"OK\n");
        stream
    };
    let first = open().await;
    lab.reaches(NodeState::Booted).await;
    let second = open().await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lab.state(), NodeState::Booted, "it has connected again before the old connection ended");
    drop(second);
    lab.reaches(NodeState::Unreachable).await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let lab = lab(false).await;
    assert_eq!(lab.exchange(b"REQ_NOTIFY_BOOTUP_STATUS\n").await, b"");
    assert_eq!(lab.counters.refused.load(Ordering::Relaxed), 1);
    assert_eq!(lab.state(), NodeState::Off);
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection() {
    let lab = lab(true).await;
    assert_eq!(lab.exchange(b"GET / HTTP/1.1\r\n\r\n").await, b"");
    let long = [&b"REQ_NEW_INCOMING_LOGS\na\nNO_TIMESTAMPS\n"[..], &vec![b'x'; 2 * wire::node::MAX_LINE]].concat();
    assert_eq!(lab.exchange(&long).await, b"");
    assert_eq!(lab.counters.malformed.load(Ordering::Relaxed), 1);
    assert_eq!(lab.counters.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn one_node_can_not_take_all_connections() {
    let lab = lab(true).await;
    let mut open = Vec::new();
    for _ in 0..80 {
        open.push(TcpStream::connect(lab.server).await.unwrap());
    }
    for _ in 0..200 {
        if lab.counters.refused.load(Ordering::Relaxed) == 16 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} refused", lab.counters.refused.load(Ordering::Relaxed));
}

#[tokio::test]
async fn netconsole_lines_are_recorded() {
    let mut lab = lab(true).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"[    1.0] hello\n[    1.1] you\n", lab.netconsole).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lab.logs(), ["netconsole: [    1.0] hello", "netconsole: [    1.1] you"]);
}

#[tokio::test]
async fn requests_to_a_node_end_as_it_answers() {
    let ask = async |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let agent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 19];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
            request
        });
        let result = super::client::exchange(address, Ipv4Addr::LOCALHOST, Request::Reboot).await;
        assert_eq!(&agent.await.unwrap(), b"MODE single\nREBOOT\n");
        result
    };
    assert!(ask(b"OK\n").await.is_ok());
    let refused = ask(b"KO not now\n").await;
    assert!(matches!(&refused, Err(RequestError::Refused { reason, .. }) if reason == "not now"), "{refused:?}");
    assert!(matches!(ask(b"hello\n").await, Err(RequestError::Nonsense { .. })));
    assert!(matches!(ask(b"").await, Err(RequestError::Nonsense { .. })));
    let none = super::client::exchange(([127, 0, 0, 1], 1).into(), Ipv4Addr::LOCALHOST, Request::Ping).await;
    assert!(matches!(none, Err(RequestError::Connect { .. })));
}

/// What a reader gets, with at least so many lines.
async fn read(lab: &Lab, wanted: Wanted, least: usize) -> Vec<String> {
    let mut batches = Reading::begin(lab.site.clone(), wanted).await.unwrap().lines();
    let mut lines = Vec::new();
    while lines.len() < least {
        let Some(batch) = batches.next().await else { break };
        lines.extend(batch.unwrap().into_iter().map(|line| format!("{} {} {}", line.issuer, line.stream, line.line)));
    }
    lines
}

#[tokio::test]
async fn a_reader_goes_from_the_past_into_the_present_without_a_gap() {
    let lab = lab(true).await;
    let send = async |from: u32, until: u32| {
        let lines: String = (from..until).map(|n| format!("{n}\n")).collect();
        lab.exchange(format!("REQ_NEW_INCOMING_LOGS\napp\nNO_TIMESTAMPS\n{lines}CLOSE\n").as_bytes()).await;
    };
    // More than one batch of history, and of the present.
    send(0, 2500).await;
    let only = |text: &str| Some(regex::Regex::new(text).unwrap());
    let filter = Filter { issuers: Some([Issuer::Device(MAC)].into()), stream: only("^app$"), line: None };
    let all = Wanted { history: Some(logs::Range::FULL), realtime: true, filter: filter.clone() };
    let (lines, ()) = tokio::join!(read(&lab, all, 5000), send(2500, 5000));
    let expected: Vec<_> = (0..5000).map(|n| format!("node-000001 app {n}")).collect();
    assert!(lines == expected, "{} lines, {:?} to {:?}", lines.len(), lines.first(), lines.last());

    let past = Wanted {
        history: Some(logs::Range::FULL),
        realtime: false,
        filter: Filter { line: only("^49[0-9]9$"), ..filter.clone() },
    };
    assert_eq!(read(&lab, past, 99).await.len(), 10);
    // Nobody but the node has written to that stream, and the server tells of the node.
    let server = Filter { issuers: Some([Issuer::Server].into()), stream: None, line: only("is a new node") };
    let told = read(&lab, Wanted { history: Some(logs::Range::FULL), realtime: false, filter: server }, 99).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("server platform node-000001: "), "{told:?}");
}

#[tokio::test]
async fn a_confirmed_line_is_on_disk() {
    let mut lab = lab(true).await;
    let lines: String = (0..3000).map(|n| format!("{n}\n")).collect();
    let text = format!("REQ_NEW_CONFIRMED_LOGS\napp\nNO_TIMESTAMPS\n{lines}CLOSE\n");
    let answer = lab.exchange(text.as_bytes()).await;
    // What is said last is true of all; the connection ended after it, and nothing is waited for here.
    let db = rusqlite::Connection::open(lab.dir.path().join("walt.db")).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM logs WHERE stream = 'app'", [], |row| row.get(0)).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!((count, answer.lines().last()), (3000, Some("3000")), "{answer}");
    assert!(answer.lines().map(|line| line.parse::<u32>().unwrap()).is_sorted());
    drop(db);
    assert_eq!(lab.logs().len(), 3000);
}
