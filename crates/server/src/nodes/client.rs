//! Requests to the agent of a node: TCP 12346.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use wire::node::{Answer, NET_SERVICE_PORT, Request};

/// Time for the whole exchange: a node that is up answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1024;

/// Why a node did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It could not be reached.
    #[error("no connection to its agent at {ip}: {cause}")]
    Connect {
        /// Node.
        ip: Ipv4Addr,
        /// Reason.
        cause: io::Error,
    },
    /// The connection broke.
    #[error("connection to its agent at {ip} broke: {cause}")]
    Exchange {
        /// Node.
        ip: Ipv4Addr,
        /// Reason.
        cause: io::Error,
    },
    /// It did not answer in time.
    #[error("its agent at {ip} does not answer")]
    Silent {
        /// Node.
        ip: Ipv4Addr,
    },
    /// It answered something else than the protocol has.
    #[error("its agent at {ip} answers nonsense: {answer:?}")]
    Nonsense {
        /// Node.
        ip: Ipv4Addr,
        /// Beginning of its answer.
        answer: String,
    },
    /// It answered that it will not.
    #[error("its agent at {ip} refuses: {reason}")]
    Refused {
        /// Node.
        ip: Ipv4Addr,
        /// Reason.
        reason: String,
    },
}

/// Asks the node at `ip` for `request` and waits until it has agreed.
///
/// # Errors
/// It did not; see [`RequestError`].
pub async fn ask(ip: Ipv4Addr, request: Request) -> Result<(), RequestError> {
    let exchange = exchange((ip, NET_SERVICE_PORT).into(), ip, request);
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(RequestError::Silent { ip }))
}

pub(super) async fn exchange(
    address: std::net::SocketAddr,
    ip: Ipv4Addr,
    request: Request,
) -> Result<(), RequestError> {
    let mut stream = TcpStream::connect(address).await.map_err(|cause| RequestError::Connect { ip, cause })?;
    let broke = |cause| RequestError::Exchange { ip, cause };
    stream.write_all(request.encode().as_bytes()).await.map_err(broke)?;
    let mut line = Vec::new();
    let mut answer = BufReader::new(stream.take(MAX_ANSWER));
    answer.read_until(b'\n', &mut line).await.map_err(broke)?;
    let line = String::from_utf8_lossy(&line);
    match Answer::parse(&line) {
        Ok(Answer::Ok) => Ok(()),
        Ok(Answer::Ko(reason)) => Err(RequestError::Refused { ip, reason }),
        Err(_) => Err(RequestError::Nonsense { ip, answer: line.chars().take(80).collect() }),
    }
}
