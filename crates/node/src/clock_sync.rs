//! `walt-clock-sync`: sets the clock from the server, by SNTP (RFC 4330).

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use wire::sntp::{Measurement, NtpTime, Packet, measure};

use crate::failure::{Doing as _, Failure};
use crate::options::Options;
use crate::settings::Settings;

/// Port of NTP.
const PORT: u16 = 123;

/// Exchanges; the one with the shortest round trip counts, because its offset is the surest (the error
/// is at most half of the round trip).
const SAMPLES: u32 = 8;

/// Longest wait for one answer, and for all of them: a server without a clock costs a boot no more.
const PATIENCE: Duration = Duration::from_millis(500);
const ALL_PATIENCE: Duration = Duration::from_secs(2);

/// A round trip this short can't be improved enough to matter.
const GOOD_ENOUGH: i64 = 500_000;

/// Hardware clock that the kernel reads at boot.
const RTC: &str = "/dev/rtc0";

pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let set = || -> Result<String, Failure> {
        let mut options = Options::new(arguments)?;
        let server = match options.value("--server")? {
            Some(server) => server,
            None => SocketAddr::from((Settings::read()?.server, PORT)),
        };
        let query = options.flag("--query");
        options.end()?;
        if query { best(server).map(|best| describe(&best)) } else { synchronise_with(server) }
    };
    match set() {
        Ok(detail) => {
            println!("{detail}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("walt-clock-sync: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the system's clock, and the hardware's if there is one. Says by how much.
pub(crate) fn synchronise(server: Ipv4Addr) -> Result<String, Failure> {
    synchronise_with(SocketAddr::from((server, PORT)))
}

fn synchronise_with(server: SocketAddr) -> Result<String, Failure> {
    let best = best(server)?;
    let now = now().saturating_add(best.offset);
    let (seconds, nanos) = (now.div_euclid(1_000_000_000), now.rem_euclid(1_000_000_000));
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanos as _ })
        .doing(|| "set the clock".into())?;
    // So that the next boot starts near; a machine may well have none.
    let hardware = u64::try_from(seconds).ok().map(|seconds| sys::rtc::set(Path::new(RTC), seconds));
    let hardware = if matches!(hardware, Some(Ok(()))) { ", hardware clock too" } else { "" };
    Ok(format!("{}{hardware}", describe(&best)))
}

fn describe(best: &Measurement) -> String {
    let milliseconds = |nanos: i64| nanos as f64 / 1e6;
    format!("clock was {:+.3} ms off (round trip {:.3} ms)", -milliseconds(best.offset), milliseconds(best.delay))
}

/// The measurement with the shortest round trip.
fn best(server: SocketAddr) -> Result<Measurement, Failure> {
    let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).doing(|| "open a UDP socket".into())?;
    socket.connect(server).doing(|| format!("connect to {server}"))?;
    let deadline = Instant::now() + ALL_PATIENCE;
    let mut best: Option<Measurement> = None;
    let mut failure = Failure::new(format!("no answer from {server}"));
    for _ in 0..SAMPLES {
        match sample(&socket) {
            Ok(one) if best.is_none_or(|best| one.delay < best.delay) => best = Some(one),
            Ok(_) => {}
            Err(error) => failure = error,
        }
        if best.is_some_and(|best| best.delay < GOOD_ENOUGH) || Instant::now() >= deadline {
            break;
        }
    }
    best.ok_or(failure)
}

fn sample(socket: &UdpSocket) -> Result<Measurement, Failure> {
    // RFC 4330 §5 compares the answer's originate time with what was sent; a random number there tells
    // our answer from a forger's as well as from a late one.
    let cookie = NtpTime(RandomState::new().build_hasher().finish() | 1);
    let deadline = Instant::now() + PATIENCE;
    // Sent and received are read off a clock that nobody sets meanwhile, and then placed on the one to set.
    let (start, sent) = (Instant::now(), now());
    socket.send(&Packet::request(cookie).encode()).doing(|| "send to the time server".into())?;
    let mut buffer = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::new("the time server does not answer"));
        }
        socket.set_read_timeout(Some(left)).doing(|| "set a time limit".into())?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error).doing(|| "hear from the time server".into()),
        };
        let received = sent.saturating_add(i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX));
        // Answers to earlier requests, and noise, are passed over until the time is up.
        let Ok(packet) = Packet::parse(&buffer[..length]) else { continue };
        match packet.accept(cookie) {
            Ok(times) => return Ok(measure(sent, times, received)),
            Err(wire::sntp::Rejected::Originate) => {}
            Err(rejected) => return Err(Failure::new(rejected.to_string())),
        }
    }
}

/// Nanoseconds since 1970 by this machine's clock.
fn now() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
