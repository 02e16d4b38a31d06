//! Whether a machine of the platform answers, and a way to its ports: for nodes and for other devices.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow, bail};

use crate::report::{self, say};

/// Connections at a time; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 256;

/// How long connecting to the other side may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks `ip` for a sign of life `count` times, and prints what comes; an error if nothing does.
///
/// The system's ping does it, which may do what we may not (raw sockets). Without one, a TCP connection to `port` does: a
/// refusal is a sign of life, too.
pub(crate) fn ping(name: &str, ip: &str, port: u16, count: u32) -> Result<(), Error> {
    let address: IpAddr = ip.parse().map_err(|_| no_address(name))?;
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", &count.to_string(), "-W", "2", ip]).stdin(Stdio::null());
    match ping.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("{name} ({ip}) does not answer"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => ping_by_tcp(name, address, port, count),
        Err(error) => Err(error).context("can not run ping"),
    }
}

fn ping_by_tcp(name: &str, ip: IpAddr, port: u16, count: u32) -> Result<(), Error> {
    let mut answers = 0;
    for number in 1..=count {
        let begun = Instant::now();
        let answer = TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(2));
        match answer {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                say(format_args!("{ip}: {number} of {count}: {error}"))?;
            }
            _ => {
                answers += 1;
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                say(format_args!("{ip}: {number} of {count}: it answers on TCP port {port} after {ms:.2} ms"))?;
            }
        }
        if number < count {
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
    }
    if answers == 0 {
        bail!("{name} ({ip}) does not answer");
    }
    Ok(())
}

fn no_address(name: &str) -> Error {
    anyhow!("{name} has no address yet: it was never on")
}

/// Passes connections to `local_port` (any that is free if it is 0) at `bind` on to `port` of `ip`, for ever.
pub(crate) fn expose(name: &str, ip: &str, port: u16, bind: IpAddr, local_port: u16) -> Result<(), Error> {
    let ip: IpAddr = ip.parse().map_err(|_| no_address(name))?;
    let listener = TcpListener::bind((bind, local_port)).with_context(|| {
        format!("can not listen on {}; 0 takes a port that is free", SocketAddr::new(bind, local_port))
    })?;
    let here = listener.local_addr().context("can not find out the port")?;
    say(format_args!("{here} leads to port {port} of {name}, until Ctrl-C"))?;
    serve(&listener, SocketAddr::new(ip, port), name)
}

fn serve(listener: &TcpListener, there: SocketAddr, name: &str) -> Result<(), Error> {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        while connections.load(Ordering::Acquire) >= MOST_CONNECTIONS {
            std::thread::sleep(Duration::from_millis(50));
        }
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) => {
                report::warn(format_args!("a connection was not taken: {error}"));
                // Out of descriptors: it does not help to ask again at once.
                std::thread::sleep(Duration::from_millis(500));
                continue;
            }
        };
        let (name, count) = (name.to_owned(), connections.clone());
        count.fetch_add(1, Ordering::AcqRel);
        let work = move || {
            if let Err(error) = pass(&client, there) {
                report::warn(format_args!("{name} ({there}) is not reached: {error}"));
            }
            count.fetch_sub(1, Ordering::AcqRel);
        };
        if std::thread::Builder::new().spawn(work).is_err() {
            connections.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Passes on what each side sends, until both have ended. An error if the other side is not reached.
fn pass(client: &TcpStream, there: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&there, PATIENCE)?;
    for stream in [client, &server] {
        // Keys of a terminal must not wait for one another.
        stream.set_nodelay(true)?;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(client, &server));
        one_way(&server, client);
    });
    Ok(())
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    // An end is passed on, and a side that broke ends the other one, too.
    let _ = to.shutdown(Shutdown::Write);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A proxy in front of `server`; its address.
    fn proxy(server: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, server, "node"));
        address
    }

    #[test]
    fn many_connections_each_with_its_own_end() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = proxy(server.local_addr().unwrap());
        // Answers when the client has ended: half-closed connections work.
        std::thread::spawn(move || {
            for stream in server.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).unwrap();
                    all.reverse();
                    stream.write_all(&all).unwrap();
                });
            }
        });
        let clients: Vec<_> = (0..20u8)
            .map(|number| {
                let mut client = TcpStream::connect(here).unwrap();
                client.write_all(&[number, 1, 2]).unwrap();
                client
            })
            .collect();
        for (number, mut client) in (0..).zip(clients) {
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [2, 1, number]);
        }
    }

    #[test]
    fn a_port_that_nobody_listens_on_ends_the_connection() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(proxy(closed)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }

    #[test]
    fn without_ping_a_refusal_is_a_sign_of_life() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        ping_by_tcp("x", closed.ip(), closed.port(), 1).unwrap();
        assert!(ping("x", "", 1, 1).unwrap_err().to_string().contains("never on"));
    }
}
