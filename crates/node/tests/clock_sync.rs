//! The SNTP client against servers good and bad. It only asks (`--query`): no test sets a clock.

mod peer;

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peer::agent;
use wire::sntp::{Clock, Leap, NtpTime, Packet};

const CLOCK: Clock = Clock {
    leap: Leap::None,
    stratum: 3,
    precision: -20,
    root_delay: 0,
    root_dispersion: 0,
    reference_id: [127, 0, 0, 1],
    reference: wire::sntp::ERA_START,
};

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// Serves requests with what `answer` makes of (number of the request, request); runs the client.
fn query(answer: impl Fn(usize, Packet, &dyn Fn(Packet)) + Send + 'static) -> (bool, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        for number in 0.. {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let request = Packet::parse(&buffer[..length]).unwrap();
            answer(number, request, &|packet| drop(socket.send_to(&packet.encode(), peer)));
        }
    });
    let output = agent("walt-clock-sync").args(["--server", &address, "--query"]).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

/// `clock was -3600000.012 ms off …` -> -3600000.012
fn milliseconds(text: &str) -> f64 {
    text.split_whitespace().nth(2).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn the_exchange_with_the_shortest_round_trip_counts() {
    // The server is an hour ahead. All of its answers are late on their way, which looks like 40 ms
    // more or less, but for the fourth.
    let (success, text) = query(|number, request, send| {
        let time = now() + 3_600_000_000_000;
        if number != 3 {
            thread::sleep(Duration::from_millis(80));
        }
        send(request.answer(&CLOCK, time, time).unwrap());
    });
    assert!(success, "{text}");
    let off = milliseconds(&text);
    assert!((off + 3_600_000.0).abs() < 20.0, "{text}");
}

#[test]
fn what_answers_another_request_is_passed_over() {
    let (success, text) = query(|_, request, send| {
        let time = now();
        let good = request.answer(&CLOCK, time, time).unwrap();
        send(Packet {
            originate: NtpTime(request.transmit.0 ^ 1),
            transmit: NtpTime::from_unix(time + 1_000_000_000_000),
            ..good
        });
        send(good);
    });
    assert!(success, "{text}");
    assert!(milliseconds(&text).abs() < 20.0, "{text}");
}

#[test]
fn a_server_without_the_time_is_not_believed() {
    let (success, text) = query(|_, request, send| {
        let clock = Clock { leap: Leap::Unknown, ..CLOCK };
        send(request.answer(&clock, now(), now()).unwrap());
    });
    assert!(!success && text.contains("not synchronised"), "{text}");
}

#[test]
fn a_silent_server_costs_a_boot_a_few_seconds_and_no_more() {
    let start = std::time::Instant::now();
    let (success, text) = query(|_, _, _| {});
    assert!(!success && text.contains("does not answer"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
