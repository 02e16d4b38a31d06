//! The session against clients over a lossy pipe, in virtual time.

use super::*;

const BLK: u64 = 512;

fn options(windowsize: Option<u16>) -> Options {
    Options { windowsize, ..Options::default() }
}

#[test]
fn rfc1350_lock_step() {
    let t = Instant::now();
    let (mut session, first) = Session::start(&Options::default(), 1000, t);
    assert_eq!(first, Action::SendBlocks { first: 1, count: 1 });
    assert_eq!(session.on_ack(1, t), Action::SendBlocks { first: 2, count: 1 });
    assert_eq!(session.acknowledged(1000), 512);
    assert_eq!(session.on_ack(2, t), Action::Finish(Outcome::Complete));
    assert_eq!(session.acknowledged(1000), 1000);
}

#[test]
fn rfc1350_section_2_a_multiple_of_the_block_size_ends_with_an_empty_block() {
    for (size, blocks) in [(0, 1), (1, 1), (511, 1), (512, 2), (513, 2), (1024, 3)] {
        let t = Instant::now();
        let (mut session, mut action) = Session::start(&Options::default(), size, t);
        for block in 1..=blocks {
            assert_eq!(action, Action::SendBlocks { first: block, count: 1 }, "{size}");
            action = session.on_ack(block as u16, t);
        }
        assert_eq!(action, Action::Finish(Outcome::Complete), "{size}");
    }
}

#[test]
fn rfc1123_section_4_2_3_1_a_repeated_ack_brings_no_block() {
    let t = Instant::now();
    let (mut session, _) = Session::start(&Options::default(), 9999, t);
    assert_eq!(session.on_ack(1, t), Action::SendBlocks { first: 2, count: 1 });
    for late in [0, 10, 500, 999] {
        assert_eq!(session.on_ack(1, t + Duration::from_millis(late)), Action::Wait);
    }
    // Nor do acknowledgements of what was never sent.
    for block in [0, 3, 4, 65535] {
        assert_eq!(session.on_ack(block, t), Action::Wait, "{block}");
    }
    let late = t + Duration::from_secs(1);
    assert_eq!(session.on_deadline(late), Action::SendBlocks { first: 2, count: 1 });
}

#[test]
fn rfc2347_options_are_acknowledged_before_any_data() {
    let t = Instant::now();
    let wished = Options { blksize: Some(1468), timeout: Some(3), tsize: Some(0), windowsize: Some(200) };
    let (mut session, first) = Session::start(&wished, 5000, t);
    assert_eq!(first, Action::SendOptions);
    assert_eq!(
        session.agreed(),
        Options { blksize: Some(1468), timeout: Some(3), tsize: Some(5000), windowsize: Some(64) }
    );
    assert_eq!(session.on_ack(1, t), Action::Wait);
    assert_eq!(session.on_deadline(t + Duration::from_millis(2999)), Action::Wait);
    assert_eq!(session.on_deadline(t + Duration::from_secs(3)), Action::SendOptions);
    assert_eq!(session.on_ack(0, t), Action::SendBlocks { first: 1, count: 4 });
}

#[test]
fn rfc7440_the_window_is_bounded_in_bytes() {
    for (blksize, window) in [(512, 64), (1468, 64), (8192, 64), (32768, 32), (65464, 16)] {
        let wished = Options { blksize: Some(blksize), windowsize: Some(u16::MAX), ..Options::default() };
        let (session, _) = Session::start(&wished, 1 << 30, Instant::now());
        assert_eq!(session.agreed().windowsize, Some(window), "{blksize}");
        assert!(session.window_bytes() <= MAX_WINDOW_BYTES);
    }
}

#[test]
fn rfc2349_size_probe_ends_at_once() {
    let wished = Options { tsize: Some(0), ..Options::default() };
    let (mut session, _) = Session::start(&wished, 5000, Instant::now());
    assert_eq!(session.on_error(), Action::Finish(Outcome::SizeOnly));
    let (mut session, _) = Session::start(&Options::default(), 5000, Instant::now());
    assert_eq!(session.on_error(), Action::Finish(Outcome::Aborted));
}

#[test]
fn retransmission_backs_off_and_gives_up() {
    let begin = Instant::now();
    let (mut session, _) = Session::start(&Options::default(), 5000, begin);
    let mut at = Vec::new();
    loop {
        let now = session.deadline();
        match session.on_deadline(now) {
            Action::SendBlocks { first: 1, count: 1 } => at.push(now.duration_since(begin).as_secs()),
            Action::Finish(outcome) => break assert_eq!(outcome, Outcome::TimedOut),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, [1, 3, 7, 15, 23]);
}

#[test]
fn silence_after_the_last_block_is_told_apart() {
    let begin = Instant::now();
    let (mut session, _) = Session::start(&Options::default(), 5, begin);
    let outcome = loop {
        if let Action::Finish(outcome) = session.on_deadline(session.deadline()) {
            break outcome;
        }
    };
    assert_eq!(outcome, Outcome::LastAckMissing);
}

#[test]
fn long_timeouts_of_the_clients_choice_do_not_hold_a_session_for_ever() {
    let begin = Instant::now();
    let wished = Options { timeout: Some(255), ..Options::default() };
    let (mut session, _) = Session::start(&wished, 5000, begin);
    while !matches!(session.on_deadline(session.deadline()), Action::Finish(_)) {}
    assert!(session.deadline().duration_since(begin) <= Duration::from_secs(510));
}

#[test]
fn a_repeated_request_is_answered_from_the_same_session() {
    let (t, pause) = (Instant::now(), Duration::from_millis(500));
    let (mut session, _) = Session::start(&options(Some(4)), 5000, t);
    assert!(session.is_opening());
    assert_eq!(session.on_repeat(t + Duration::from_millis(20), pause), Action::Wait);
    assert_eq!(session.on_repeat(t + pause, pause), Action::SendOptions);
    session.on_ack(0, t);
    assert!(!session.is_opening());
}

#[test]
fn a_request_that_overtook_the_error_before_it_gets_a_session_of_its_own() {
    let (t, pause) = (Instant::now(), Duration::from_millis(500));
    let probe = || Session::start(&Options { tsize: Some(0), ..Options::default() }, 5000, t).0;

    let mut overtaken = probe();
    overtaken.on_repeat(t, pause);
    assert_eq!(overtaken.on_error(), Action::Finish(Outcome::SizeOnly));
    assert!(overtaken.wants_another(Outcome::SizeOnly));

    let mut answered = probe();
    answered.on_repeat(t, pause);
    answered.on_ack(0, t);
    answered.on_error();
    assert!(!answered.wants_another(Outcome::Aborted));

    assert!(!probe().wants_another(Outcome::SizeOnly));
}

/// What a client does with the blocks that it gets.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    /// RFC 7440: acknowledges whole windows, and once when it sees a gap.
    Standard,
    /// Acknowledges each block that comes out of order (older atftp).
    EachStray,
    /// Acknowledges each block, in order or not.
    EachBlock,
}

struct Report {
    outcome: Outcome,
    /// Blocks sent for each block of the file, in percent.
    sent_percent: u64,
    took: Duration,
}

/// Runs a whole transfer; the pipe loses `loss` out of 1000 packets each way, and takes 100 µs.
fn transfer(client: Client, wished: Options, size: u64, loss: u64, seed: u64) -> Report {
    let begin = Instant::now();
    let (mut now, wire) = (begin, Duration::from_micros(100));
    let mut random = seed | 1;
    let mut lost = || {
        // xorshift64: any fixed sequence will do, it only has to be the same each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % 1000 < loss
    };
    let (mut session, mut action) = Session::start(&wished, size, now);
    let (blksize, window) = (session.blksize(), u64::from(session.agreed().windowsize.unwrap_or(1)));
    let blocks = size / blksize + 1;
    // In flight: (arrival, to the client?, block or acknowledgement as it is on the wire).
    let mut flight: Vec<(Instant, bool, Option<u16>)> = Vec::new();
    // The client: blocks in order so far, blocks since its last acknowledgement, gap seen, last activity.
    let (mut have, mut fresh, mut gap, mut heard) = (0, 0, false, now);
    let mut sent = 0;
    let patience = Duration::from_secs(2);
    let outcome = loop {
        match action {
            Action::Wait => {}
            Action::SendOptions if !lost() => flight.push((now + wire, true, None)),
            Action::SendOptions => {}
            Action::SendBlocks { first, count } => {
                for block in first..first + u64::from(count) {
                    assert!(block <= blocks);
                    sent += 1;
                    now += Duration::from_micros(1);
                    if !lost() {
                        flight.push((now + wire, true, Some(block as u16)));
                    }
                }
                session.on_sent(now);
            }
            Action::Finish(outcome) => break outcome,
        }
        action = Action::Wait;
        flight.sort_by_key(|packet| packet.0);
        let arrival = flight.first().map(|packet| packet.0);
        // A client that has it all lingers no longer: a lost last acknowledgement stays lost.
        let client_due = (have < blocks).then_some(heard + patience);
        let due = [arrival, client_due].into_iter().flatten().fold(session.deadline(), Instant::min);
        now = now.max(due);
        let mut acknowledge = None;
        if arrival == Some(due) {
            match flight.remove(0) {
                (_, false, Some(ack)) => action = session.on_ack(ack, now),
                (_, false, None) => unreachable!(),
                (_, true, None) => {
                    heard = now;
                    acknowledge = (have == 0).then_some(0);
                }
                (_, true, Some(block)) if have < blocks => {
                    heard = now;
                    if block == (have + 1) as u16 {
                        (have, fresh, gap) = (have + 1, fresh + 1, false);
                        if fresh == window || have == blocks || client == Client::EachBlock {
                            (fresh, acknowledge) = (0, Some(have as u16));
                        }
                    } else if client != Client::Standard || !gap {
                        (gap, fresh, acknowledge) = (true, 0, Some(have as u16));
                    }
                }
                (_, true, Some(_)) => {}
            }
        } else if client_due == Some(due) {
            (heard, fresh, gap, acknowledge) = (now, 0, false, (have > 0).then_some(have as u16));
        } else {
            action = session.on_deadline(now);
        }
        if let Some(ack) = acknowledge
            && !lost()
        {
            flight.push((now + wire, false, Some(ack)));
        }
    };
    assert!(outcome != Outcome::Complete || have == blocks);
    Report { outcome, sent_percent: sent * 100 / blocks, took: now.duration_since(begin) }
}

#[test]
fn a_clean_pipe_sends_each_block_once() {
    for windowsize in [None, Some(1), Some(2), Some(4), Some(16), Some(64)] {
        for size in [0, 1, BLK - 1, BLK, BLK + 1, 63 * BLK, 64 * BLK, 1000 * BLK + 7] {
            for client in [Client::Standard, Client::EachStray] {
                let report = transfer(client, options(windowsize), size, 0, 1);
                assert_eq!(report.outcome, Outcome::Complete);
                assert_eq!(report.sent_percent, 100, "{windowsize:?} {size}");
            }
        }
    }
}

#[test]
fn block_numbers_roll_over() {
    for windowsize in [None, Some(7), Some(64)] {
        for blocks in [65534, 65535, 65536, 65537, 131_073] {
            let report = transfer(Client::Standard, options(windowsize), blocks * BLK, 0, 1);
            assert_eq!((report.outcome, report.sent_percent), (Outcome::Complete, 100), "{windowsize:?} {blocks}");
        }
    }
}

#[test]
fn rfc7440_loss_never_multiplies_the_file() {
    for client in [Client::Standard, Client::EachStray] {
        for windowsize in [None, Some(2), Some(8), Some(32), Some(64)] {
            for loss in [1, 10, 30] {
                for seed in 1..6 {
                    let report = transfer(client, options(windowsize), 4000 * BLK, loss, seed * 0x9e37_79b9);
                    assert!(matches!(report.outcome, Outcome::Complete | Outcome::LastAckMissing));
                    // A lost block costs at most its window, once, and twice if that is hit again.
                    let window = u64::from(windowsize.unwrap_or(1));
                    let bound = 100 + 100 * loss * 3 * window / 1000 + 10;
                    assert!(
                        report.sent_percent <= bound,
                        "window {windowsize:?} loss {loss}: {} % sent",
                        report.sent_percent
                    );
                    // In lock-step each loss costs a timeout of a second or more. In a window gaps are
                    // mended within milliseconds, and only a lost end of a window or acknowledgement costs a timeout.
                    let losses = 4000 * loss * 2 / 1000;
                    let bound = if window == 1 { losses * 3 / 2 } else { losses / window * 3 };
                    // A lost last acknowledgement is waited for as long as the retransmissions last.
                    let bound = bound + 42;
                    assert!(report.took < Duration::from_secs(bound), "window {window} {loss}: {:?}", report.took);
                }
            }
        }
    }
}

#[test]
fn a_client_that_acknowledges_each_block_gets_each_once() {
    for windowsize in [2, 4, 16, 64] {
        let report = transfer(Client::EachBlock, options(Some(windowsize)), 4000 * BLK, 0, 1);
        assert_eq!(report.outcome, Outcome::Complete);
        assert!(report.sent_percent <= 100, "window {windowsize}: {} % sent", report.sent_percent);
        assert!(report.took < Duration::from_secs(30), "{:?}", report.took);
    }
}
