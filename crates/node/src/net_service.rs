//! The network service of a node: what the server asks of it.
//!
//! It lives in RAM and answers when the NFS server is gone; what it runs of the image, it runs in a
//! child that enters the image's root. Beside that it tells the server which switch the node hangs on ([`switch`]).

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::mm::{MlockAllFlags, mlockall};
use wire::node::{Answer, NET_SERVICE_PORT, Request};

use crate::child::{self, Ended, ImageRoot};
use crate::console::{Level, say};
use crate::failure::{Doing as _, Failure};
use crate::options::Options;
use crate::power;
use crate::switch;

const NAME: &str = "walt-net-service";

/// Requests served at once; the server has one at a time.
const MOST_CONNECTIONS: usize = 8;

/// A client that says nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest request: mode and request lines.
const MAX_REQUEST: u64 = 256;

/// How long the image's own reboot program has.
const TIME_TO_REBOOT: Duration = Duration::from_secs(60);

/// How long `/bin/blink` has to begin blinking.
const TIME_TO_BLINK: Duration = Duration::from_secs(10);

/// The programs with which an image reboots its own way; the first that it has is run.
const REBOOT_PROGRAMS: [&str; 2] = ["/bin/walt-reboot", "/bin/walt-network-reboot"];

struct Service {
    server: Ipv4Addr,
    /// Directory that stands for the image's root in tests; PID 1's root otherwise.
    root: Option<std::path::PathBuf>,
    dry_run: bool,
    rebooting: AtomicBool,
    connections: AtomicUsize,
}

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    match serve(arguments) {
        Ok(never) => match never {},
        Err(failure) => {
            say(Level::Error, NAME, &failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Vec<OsString>) -> Result<std::convert::Infallible, Failure> {
    let mut options = Options::new(arguments)?;
    let port = options.value("--port")?.unwrap_or(NET_SERVICE_PORT);
    let service = Arc::new(Service {
        server: options.required("--server")?,
        root: options.value("--root")?,
        // Tests say what would happen instead of doing it.
        dry_run: options.flag("--dry-run"),
        rebooting: AtomicBool::new(false),
        connections: AtomicUsize::new(0),
    });
    options.end()?;
    if service.root.is_none() {
        ImageRoot::from_standard_input()
            .doing(|| "find the image's root on standard input, as walt-init gives it".into())?;
    }
    if !service.dry_run {
        let _ = rustix::process::setsid();
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).doing(|| "lock the service into memory".into())?;
    }
    switch::start(service.server);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).doing(|| format!("listen on TCP port {port}"))?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => service.accept(stream, peer),
            Err(error) => {
                say(Level::Error, NAME, &format!("accept: {error}"));
                // Out of descriptors or memory: it does not help to ask again at once.
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

impl Service {
    /// Only the server is answered: everybody else is closed on without a word.
    fn accept(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if peer.ip() != IpAddr::V4(self.server) || self.connections.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
            return;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let service = Arc::clone(self);
        let work = move || {
            // A client that went away while it was answered has what it wanted.
            let _ = service.talk(&stream);
            service.connections.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().stack_size(128 * 1024).spawn(work) {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            say(Level::Error, NAME, &format!("start a thread: {error}"));
        }
    }

    fn talk(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = match read_request(stream)? {
            Ok(request) => request,
            Err(reason) => return answer(stream, &Answer::Ko(reason)),
        };
        match request {
            Request::Ping => answer(stream, &Answer::Ok),
            Request::Blink(on) => answer(stream, &self.blink(on)),
            Request::Dmesg => match sys::kernel_log::read() {
                Ok(log) => {
                    answer(stream, &Answer::Ok)?;
                    stream.write_all(&log)
                }
                Err(error) => answer(stream, &Answer::Ko(format!("read the kernel's log: {error}"))),
            },
            Request::Reboot => {
                let first = !self.rebooting.swap(true, Ordering::SeqCst);
                let answered = answer(stream, &Answer::Ok);
                // The answer is to arrive before the network goes down: the client closes once it has it.
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = io::copy(&mut stream.take(MAX_REQUEST), &mut io::sink());
                if first {
                    self.reboot();
                    // The kernel has refused, or it is a test: the next request is another try.
                    self.rebooting.store(false, Ordering::SeqCst);
                }
                answered
            }
        }
    }

    fn blink(&self, on: bool) -> Answer {
        const BLINK: &str = "/bin/blink";
        match self.run(BLINK, &[if on { "1" } else { "0" }], TIME_TO_BLINK) {
            Ended::Absent => Answer::Ko(format!("this image has no {BLINK}")),
            // A program that goes on blinking in the foreground does what it was asked for.
            Ended::StillRunning => Answer::Ok,
            Ended::Returned(status) if status.success() => Answer::Ok,
            Ended::Returned(status) => Answer::Ko(format!("{BLINK}: {status}")),
            Ended::Failed(error) => Answer::Ko(format!("{BLINK}: {error}")),
        }
    }

    /// The image's own way first, then by force.
    fn reboot(&self) {
        say(Level::Info, NAME, "the server asks for a reboot");
        for program in REBOOT_PROGRAMS {
            match self.run(program, &[], TIME_TO_REBOOT) {
                Ended::Absent => continue,
                Ended::StillRunning => say(Level::Error, NAME, &format!("{program} has not rebooted in time")),
                Ended::Returned(status) => say(Level::Info, NAME, &format!("{program} returned ({status})")),
                Ended::Failed(error) => say(Level::Error, NAME, &format!("{program}: {error}")),
            }
            break;
        }
        if self.dry_run {
            println!("REBOOT");
            return;
        }
        // Nothing on a node outlives it, so its init is not asked to stop everything in good order.
        // But peers are to learn at once that their connections end: processes that end close them.
        power::end_all_processes();
        power::sync(Duration::from_secs(3));
        power::reboot_now(None);
    }

    fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> Ended {
        let root = match &self.root {
            Some(path) => Ok(ImageRoot::At(path.clone())),
            None => ImageRoot::from_standard_input(),
        };
        match root {
            Ok(root) => child::run(root, program, arguments, limit),
            Err(error) => Ended::Failed(error),
        }
    }
}

/// The request, or what to answer instead.
fn read_request(stream: &TcpStream) -> io::Result<Result<Request, String>> {
    let mut lines = BufReader::new(stream.take(MAX_REQUEST));
    let mut line = String::new();
    lines.read_line(&mut line)?;
    if let Err(error) = Request::check_mode(&line) {
        return Ok(Err(error.to_string()));
    }
    line.clear();
    lines.read_line(&mut line)?;
    Ok(Request::parse(&line).map_err(|error| error.to_string()))
}

fn answer(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(format!("{answer}\n").as_bytes())
}
