//! A whole TFTP transfer with a hostile client: whatever it sends, each block that goes out lies in
//! the file, no window exceeds what was agreed, and silence ends the session.
#![no_main]

use std::time::{Duration, Instant};

use net::bootfile::{Place, place_of_http, place_of_tftp};
use net::tftp::session::{Action, MAX_WINDOW, MAX_WINDOW_BYTES, Session};
use wire::tftp::{Options, Packet};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (head, mut rest) = data.split_at(data.len().min(64));
    let size = head.iter().take(4).fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    let wished = match Packet::parse(head.get(4..).unwrap_or_default()) {
        Ok(Packet::Read(request)) => {
            check_path(request.path);
            request.options
        }
        _ => Options::default(),
    };
    let mut now = Instant::now();
    let (mut session, mut action) = Session::start(&wished, size, now);
    let (blksize, blocks) = (session.blksize(), size / session.blksize() + 1);
    assert!(session.window_bytes() <= MAX_WINDOW_BYTES);
    loop {
        match action {
            Action::SendBlocks { first, count } => {
                assert!(first >= 1 && (1..=MAX_WINDOW).contains(&count));
                assert!(u64::from(count) * blksize <= session.window_bytes());
                assert!(first + u64::from(count) - 1 <= blocks);
                session.on_sent(now);
            }
            Action::Finish(_) => return,
            Action::Wait | Action::SendOptions => {}
        }
        assert!(session.acknowledged(size) <= size);
        // Each step: a byte of time, a byte of length, a packet.
        let Some((&[time, len], packet)) = rest.split_first_chunk() else { break };
        let (packet, tail) = packet.split_at(packet.len().min(usize::from(len)));
        rest = tail;
        now += Duration::from_millis(u64::from(time) * u64::from(time));
        action = match Packet::parse(packet) {
            Ok(Packet::Ack { block }) => session.on_ack(block, now),
            Ok(Packet::Error { .. }) => session.on_error(),
            Ok(Packet::Read(request)) => {
                check_path(request.path);
                session.on_repeat(now, Duration::from_millis(500))
            }
            _ => session.on_deadline(now),
        };
    }
    for _ in 0..100 {
        now = now.max(session.deadline());
        if let Action::Finish(_) = session.on_deadline(now) {
            return;
        }
    }
    panic!("silence does not end the session");
});

fn check_path(path: &[u8]) {
    for place in [place_of_tftp(path), place_of_http(path)] {
        if let Place::Image(path) = place {
            assert!(!path.starts_with(b"/"));
            assert!(path.split(|byte| *byte == b'/').all(|part| part != b".." && part != b"."));
        }
    }
}
