//! Asks other name servers in the place of a client.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::request::HEADER;
use super::{Request, Resolvers, Transport};

/// How long one server has.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long all of them have: less than the 5 s after which resolvers ask again (resolv.conf(5), `timeout`).
const ALL_ATTEMPTS: Duration = Duration::from_millis(4500);
/// Servers asked for one query, one after the other; the first one again if there is no other.
const ATTEMPTS: usize = 3;
/// One warning in this time: nodes ask again and again.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The other name servers.
#[derive(Debug)]
pub(super) struct Forwarder {
    resolvers: Resolvers,
    /// Number of the one that answered last.
    preferred: AtomicUsize,
    warned: Mutex<Option<Instant>>,
}

/// What a message from a name server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The answer.
    Answer,
    /// The beginning of the answer.
    Truncated,
    /// That this server knows no answer; another one may.
    Unable,
    /// Nothing that belongs to our question.
    Foreign,
}

impl Forwarder {
    pub(super) fn new(resolvers: Resolvers) -> Self {
        Self { resolvers, preferred: AtomicUsize::new(0), warned: Mutex::default() }
    }

    /// The answer for the client; `Err` is the one that says that there is none.
    pub(super) async fn resolve(&self, request: &Request) -> Result<Vec<u8>, Vec<u8>> {
        let servers = self.resolvers.current().await;
        let mut unable = None;
        let asking = async {
            let first = self.preferred.load(Ordering::Relaxed);
            for attempt in first..first + ATTEMPTS {
                let server = servers.get(attempt % servers.len().max(1))?;
                match timeout(ATTEMPT, ask(*server, request)).await {
                    Ok(Ok((Verdict::Unable, answer))) => unable = Some(answer),
                    Ok(Ok((_, answer))) => {
                        self.preferred.store(attempt % servers.len(), Ordering::Relaxed);
                        return Some(answer);
                    }
                    Ok(Err(error)) => tracing::debug!(%server, %error, "name server"),
                    Err(_) => tracing::debug!(%server, "name server: no answer"),
                }
            }
            None
        };
        let answer = timeout(ALL_ATTEMPTS, asking).await.ok().flatten();
        if answer.is_none() && unable.is_none() {
            self.warn(&servers);
        }
        match answer {
            Some(answer) => Ok(for_client(request, answer)),
            None => Err(unable.map_or_else(
                || request.finish(request.reply(ResponseCode::ServFail)),
                |answer| for_client(request, answer),
            )),
        }
    }

    fn warn(&self, servers: &[SocketAddr]) {
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| now.duration_since(at) < WARN_EVERY) {
            return;
        }
        *warned = Some(now);
        drop(warned);
        if servers.is_empty() {
            tracing::warn!(
                "there is no name server to ask for nodes behind NAT: /etc/resolv.conf names none but this one; \
                 `forwarders` below [dns] in the configuration names others"
            );
        } else {
            tracing::warn!(?servers, "no name server answers for nodes behind NAT");
        }
    }
}

/// Asks one server, over TCP if its answer is too long for a datagram and the client has room for it.
async fn ask(server: SocketAddr, request: &Request) -> io::Result<(Verdict, Vec<u8>)> {
    let (verdict, answer) = over_udp(server, request).await?;
    // Over UDP the client gets what there is, and comes again over TCP (RFC 7766 §5).
    if verdict == Verdict::Truncated && request.transport == Transport::Tcp {
        return over_tcp(server, request).await;
    }
    Ok((verdict, answer))
}

async fn over_udp(server: SocketAddr, request: &Request) -> io::Result<(Verdict, Vec<u8>)> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // RFC 5452 §9.2: another port each time, which the kernel draws, and an unpredictable number. Connected: nobody else's
    // datagrams come in.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = random_id()?;
    socket.send(&request.question_for(id)).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match judge(&buffer[..length], id, &request.question) {
            // RFC 5452 §9.1: wait for the right one; the time limit of the attempt ends that.
            Verdict::Foreign => {}
            verdict => return Ok((verdict, buffer[..length].to_vec())),
        }
    }
}

/// RFC 1035 §4.2.2.
async fn over_tcp(server: SocketAddr, request: &Request) -> io::Result<(Verdict, Vec<u8>)> {
    let mut stream = TcpStream::connect(server).await?;
    let id = random_id()?;
    let query = request.question_for(id);
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match judge(&answer, id, &request.question) {
        Verdict::Foreign => Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question")),
        verdict => Ok((verdict, answer)),
    }
}

/// RFC 5452 §9.1: an answer has the number and the question of the query.
fn judge(bytes: &[u8], id: u16, question: &Query) -> Verdict {
    let Some(&[id_high, id_low, flags, code, questions @ ..]) = bytes.first_chunk::<6>() else {
        return Verdict::Foreign;
    };
    let is_answer = flags & 0x80 != 0 && (flags >> 3) & 0x0f == 0;
    if !is_answer || u16::from_be_bytes([id_high, id_low]) != id {
        return Verdict::Foreign;
    }
    let answered = || -> Option<Query> {
        let decoder = BinDecoder::new(bytes);
        Query::read(&mut decoder.clone(u16::try_from(HEADER).ok()?)).ok()
    };
    if questions != [0, 1] || bytes.len() < HEADER || answered().as_ref() != Some(question) {
        return Verdict::Foreign;
    }
    // SERVFAIL, NOTIMP, REFUSED.
    if [2, 4, 5].contains(&(code & 0x0f)) {
        return Verdict::Unable;
    }
    if flags & 0x02 != 0 { Verdict::Truncated } else { Verdict::Answer }
}

/// A server's answer as an answer to the client: with the client's number, and no longer than it takes.
fn for_client(request: &Request, mut answer: Vec<u8>) -> Vec<u8> {
    if answer.len() > request.limit() {
        let mut reply = request.reply(ResponseCode::NoError);
        reply.metadata.truncation = true;
        reply.metadata.recursion_available = true;
        return request.finish(reply);
    }
    if let Some(id) = answer.first_chunk_mut::<2>() {
        *id = request.metadata.id.to_be_bytes();
    }
    // Of what is not our own we are no authority.
    if let Some(flags) = answer.get_mut(2) {
        *flags &= !0x04;
    }
    answer
}

fn random_id() -> io::Result<u16> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_be_bytes(id))
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
