//! An HTTP proxy in front of a registry that misbehaves on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Head of a request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Forward,
    /// Answers by itself: status line's end, more header lines, body.
    Reply(&'static str, Vec<String>, String),
    /// Forwards, and closes the connection after this many bytes of the body.
    Cut(usize),
    /// Forwards, with one bit of this byte of the body flipped.
    Corrupt(usize),
    /// Forwards this many bytes of the body, then says nothing more.
    Stall(usize),
    /// Forwards without the request's Range.
    NoRange,
    /// Forwards after a while.
    Delay(Duration),
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    /// `decide` gets each request.
    pub(crate) fn start(upstream: SocketAddr, decide: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let decide = Arc::new(decide);
        let (requests, stopped) = (log.clone(), stop.clone());
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (requests, decide) = (requests.clone(), decide.clone());
                thread::spawn(move || {
                    // A peer that goes away is part of every test here.
                    let _ = serve(connection, upstream, &requests, &*decide);
                });
            }
        });
        Proxy { address, log, stop }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// One request a connection.
fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    log: &Mutex<Vec<Request>>,
    decide: &dyn Fn(&Request) -> Action,
) -> std::io::Result<()> {
    let Some(request) = read_request(&client)? else { return Ok(()) };
    log.lock().unwrap().push(request.clone());
    let action = decide(&request);
    if let Action::Reply(status, headers, body) = action {
        let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        let length = body.len();
        return write!(
            client,
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    if let Action::Delay(time) = action {
        thread::sleep(time);
    }
    let mut server = TcpStream::connect(upstream)?;
    write!(server, "{} {} HTTP/1.1\r\n", request.method, request.path)?;
    for (name, value) in &request.headers {
        let dropped = name == "connection" || (name == "range" && matches!(action, Action::NoRange));
        if !dropped {
            write!(server, "{name}: {value}\r\n")?;
        }
    }
    write!(server, "connection: close\r\n\r\n{}", request.body)?;
    let mut server = BufReader::new(server);
    let mut line = String::new();
    while server.read_line(&mut line)? > 0 {
        client.write_all(line.as_bytes())?;
        if line == "\r\n" {
            break;
        }
        line.clear();
    }
    let mut sent = 0;
    let mut buffer = vec![0; 8192];
    loop {
        let want = match action {
            Action::Cut(at) | Action::Stall(at) => buffer.len().min(at - sent),
            _ => buffer.len(),
        };
        if want == 0 {
            if matches!(action, Action::Stall(_)) {
                thread::sleep(Duration::from_secs(20));
            }
            return Ok(());
        }
        let len = server.read(&mut buffer[..want])?;
        if len == 0 {
            return Ok(());
        }
        if let Action::Corrupt(at) = action
            && (sent..sent + len).contains(&at)
        {
            buffer[at - sent] ^= 1;
        }
        client.write_all(&buffer[..len])?;
        sent += len;
    }
}

fn read_request(client: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(client);
    let mut first = String::new();
    // A TLS greeting is no text: read_line fails, and the connection is closed.
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        line.clear();
    }
    let mut request = Request { method: method.to_owned(), path: path.to_owned(), headers, body: String::new() };
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body)?;
    Ok(Some(request))
}
