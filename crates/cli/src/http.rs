//! HTTP/1.1 over the control socket: one request a connection, which is all that a command needs.
//!
//! Blocking, and without a runtime, so that a command costs a millisecond. A body comes with a length
//! or in chunks (RFC 9112 §6); one that ends early is an error, never a short answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest head of a response, in bytes.
const MAX_HEAD: u64 = 64 * 1024;
/// Longest body that is read as a whole, in bytes.
const MAX_JSON: u64 = 256 << 20;
/// Fields in the head of a response.
const MAX_FIELDS: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("walt-server-daemon does not listen on {path}: {cause}")]
    Connect { path: PathBuf, cause: io::Error },
    #[error("the connection to walt-server-daemon broke: {0}")]
    Broken(#[source] io::Error),
    #[error("walt-server-daemon answers nonsense: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Refused(Problem),
}

/// Reaches the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    patience: Option<Duration>,
}

/// What is sent as a body.
pub(crate) enum Sent<'a> {
    Nothing,
    Json(Vec<u8>),
    /// Bytes of unknown length.
    Stream(&'a mut dyn Read),
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, patience: None }
    }

    /// Gives up when the daemon does not take or answer anything for so long.
    pub(crate) fn with_patience(socket: &Path, patience: Duration) -> Self {
        Self { socket: socket.to_owned(), patience: Some(patience) }
    }

    /// GET, and the JSON that comes.
    pub(crate) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, HttpError> {
        self.send("GET", target, Sent::Nothing)?.json()
    }

    /// Any method; a status of failure is [`HttpError::Refused`].
    pub(crate) fn send(&self, method: &str, target: &str, body: Sent<'_>) -> Result<Body, HttpError> {
        let connect = |cause| HttpError::Connect { path: self.socket.clone(), cause };
        let mut stream = UnixStream::connect(&self.socket).map_err(connect)?;
        stream.set_read_timeout(self.patience).map_err(connect)?;
        stream.set_write_timeout(self.patience).map_err(connect)?;
        let sent = write_request(&mut stream, method, target, body);
        let mut stream = BufReader::new(stream);
        // A server that refuses may answer before it has taken the whole body: the answer tells more
        // than the broken pipe.
        let head = match (read_head(&mut stream), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) => return Err(HttpError::Broken(error)),
            (Err(error), Ok(())) => return Err(error),
        };
        let body = Body { stream, left: head.framing };
        if (200..300).contains(&head.status) { Ok(body) } else { Err(body.problem(head.status)) }
    }
}

impl Client {
    /// A connection that is no longer HTTP but `protocol` (RFC 9110 §7.8), and what has come on it already.
    pub(crate) fn upgrade(&self, target: &str, protocol: &str) -> Result<(UnixStream, Vec<u8>), HttpError> {
        let connect = |cause| HttpError::Connect { path: self.socket.clone(), cause };
        let mut stream = UnixStream::connect(&self.socket).map_err(connect)?;
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: walt\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(HttpError::Broken)?;
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream)?;
        if head.status != 101 {
            return Err(Body { stream, left: head.framing }.problem(head.status));
        }
        let come = stream.buffer().to_vec();
        Ok((stream.into_inner(), come))
    }
}

/// Body of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    stream: BufReader<UnixStream>,
    left: Framing,
}

/// How the end of a body is found (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of this chunk are left; `None` before the first one.
    Chunk(Option<u64>),
    /// Up to the end of the connection.
    Close,
}

impl Body {
    /// The whole body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        let mut text = Vec::new();
        self.take(MAX_JSON).read_to_end(&mut text).map_err(HttpError::Broken)?;
        serde_json::from_slice(&text).map_err(|error| HttpError::Nonsense(error.to_string()))
    }

    fn problem(self, status: u16) -> HttpError {
        match self.json::<Problem>() {
            Ok(problem) => HttpError::Refused(problem),
            Err(_) => HttpError::Nonsense(format!("status {status}")),
        }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed chunk");
        let mut line = Vec::new();
        if !first {
            self.read_line(&mut line)?;
            line.clear();
        }
        self.read_line(&mut line)?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ => Err(malformed()),
        }
    }

    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        (&mut self.stream).take(1024).read_until(b'\n', line)?;
        if line.ends_with(b"\n") { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunk(left @ (None | Some(0))) = self.left {
            // The last chunk has no size and stays the last one.
            let size = self.next_chunk(left.is_none())?;
            self.left = if size == 0 { Framing::Length(0) } else { Framing::Chunk(Some(size)) };
        }
        let left = match &mut self.left {
            Framing::Length(left) | Framing::Chunk(Some(left)) => left,
            Framing::Chunk(None) | Framing::Close => return self.stream.read(buf),
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        match self.stream.read(&mut buf[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                *left -= read as u64;
                Ok(read)
            }
        }
    }
}

/// Path and query of a request; names and values may be anything.
pub(crate) fn target(path: &[&str], query: &[(&str, &str)]) -> String {
    let mut target: String = path.iter().map(|part| format!("/{}", escaped(part))).collect();
    for (at, (name, value)) in query.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(&format!("{}={}", escaped(name), escaped(value)));
    }
    target
}

/// RFC 3986 §2.3: everything but unreserved characters as `%xx`.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A body of JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Sent<'static> {
    // A value of our own types always has a JSON form.
    Sent::Json(serde_json::to_vec(value).unwrap_or_default())
}

fn write_request(stream: &mut UnixStream, method: &str, target: &str, body: Sent<'_>) -> io::Result<()> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: walt\r\nConnection: close\r\n");
    match body {
        Sent::Nothing => stream.write_all(format!("{head}\r\n").as_bytes()),
        Sent::Json(json) => {
            let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", json.len());
            stream.write_all(&[head.as_bytes(), fields.as_bytes(), &json].concat())
        }
        Sent::Stream(source) => {
            let fields = "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(&[head.as_bytes(), fields.as_bytes()].concat())?;
            let mut chunk = vec![0; 256 * 1024];
            loop {
                let read = source.read(&mut chunk)?;
                stream.write_all(format!("{read:x}\r\n").as_bytes())?;
                stream.write_all(&chunk[..read])?;
                stream.write_all(b"\r\n")?;
                if read == 0 {
                    return Ok(());
                }
            }
        }
    }
}

struct Head {
    status: u16,
    framing: Framing,
}

fn read_head(stream: &mut BufReader<UnixStream>) -> Result<Head, HttpError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let left = MAX_HEAD.saturating_sub(head.len() as u64);
        let read = stream.take(left).read_until(b'\n', &mut head).map_err(HttpError::Broken)?;
        if read == 0 {
            return Err(HttpError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    parse_head(&head).ok_or_else(|| HttpError::Nonsense(String::from_utf8_lossy(&head).chars().take(80).collect()))
}

fn parse_head(head: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    if !response.parse(head).ok()?.is_complete() {
        return None;
    }
    let status = response.code?;
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let framing = if status == 204 || status == 101 {
        Framing::Length(0)
    } else if field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        Framing::Chunk(None)
    } else if let Some(length) = field("content-length") {
        Framing::Length(length.trim().parse().ok()?)
    } else {
        Framing::Close
    };
    Some(Head { status, framing })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// The body that a client reads when a server answers with exactly these bytes.
    fn answer(bytes: &'static [u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let body = Client::new(path).send("GET", "/", Sent::Nothing);
        let result = body.map_err(|error| error.to_string()).and_then(|mut body| {
            let mut text = String::new();
            body.read_to_string(&mut text).map_err(|error| error.to_string()).map(|_| text)
        });
        server.join().unwrap();
        result
    }

    #[test]
    fn bodies_end_where_they_say() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixxx").as_deref(), Ok("hi"));
        let chunks =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhi\r\na;x=y\r\n1234567890\r\n0\r\n\r\n";
        assert_eq!(answer(chunks).as_deref(), Ok("hi1234567890"));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\nhi").as_deref(), Ok("hi"));
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").as_deref(), Ok(""));
    }

    #[test]
    fn a_body_that_is_cut_off_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n",
            b"HTTP/1.1 200 OK\r\nContent-",
            b"garbage\r\n\r\n",
            b"",
        ] {
            assert!(answer(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_refusal_is_the_problem_that_the_server_tells() {
        let error = answer(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 54\r\n\r\n{\"kind\":\"unknown_node\",\"message\":\"there is no node x\"}",
        );
        assert_eq!(error, Err("there is no node x".into()));
    }

    #[test]
    fn targets_are_escaped() {
        let query = [("image", "a/b:1&c"), ("path", "/é")];
        assert_eq!(target(&["v1", "x/y"], &query), "/v1/x%2Fy?image=a%2Fb%3A1%26c&path=%2F%C3%A9");
    }
}
