//! The log tools against a server of the node protocol.

mod peer;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;

use peer::{Said, Server, agent};
use wire::node::Timestamps;

fn line(text: &str) -> Said {
    Said::Line(text.to_owned(), true)
}

#[test]
fn echo_sends_its_arguments_as_one_line() {
    let server = Server::start();
    let address = server.address.to_string();
    let status = agent("walt-log-echo").args(["--server", &address, "progress", "half", "way"]).status().unwrap();
    assert!(status.success());
    let said: Vec<_> = (0..4).map(|_| server.next()).collect();
    assert_eq!(said, [Said::Opened("progress".into(), Timestamps::Inside), line("half way"), Said::Closed, Said::End]);
}

#[test]
fn the_old_names_do_the_same() {
    let server = Server::start();
    let address = server.address.to_string();
    assert!(agent("walt-echo").args(["--server", &address, "a", "b"]).status().unwrap().success());
    assert_eq!(server.next(), Said::Opened("a".into(), Timestamps::Inside));
    assert_eq!(server.next(), line("b"));
}

#[test]
fn cat_and_tee_send_standard_input_line_by_line() {
    for (name, copied) in [("walt-log-cat", ""), ("walt-log-tee", "one\n\nlast")] {
        let server = Server::start();
        let address = server.address.to_string();
        let mut child =
            agent(name).args(["--server", &address, "s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // The last line has no newline.
        child.stdin.take().unwrap().write_all(b"one\n\nlast").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), copied, "{name}");
        let said: Vec<_> = (0..5).map(|_| server.next()).collect();
        assert_eq!(
            said,
            [Said::Opened("s".into(), Timestamps::Inside), line("one"), line(""), line("last"), Said::Closed],
            "{name}"
        );
    }
}

#[test]
fn tee_goes_on_without_a_server_and_says_what_is_lost() {
    // A port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut child = agent("walt-log-tee")
        .args(["--server", &free, "--patience", "0.5", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"one\ntwo\n");
    assert!(!output.status.success());
    let reason = String::from_utf8(output.stderr).unwrap();
    assert!(reason.contains(&format!("log stream s on {free}: 2 lines are lost: ")), "{reason}");
}

#[test]
fn what_was_not_confirmed_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut child = agent("walt-log-cat").args(["--server", &address, "s"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\nthree\n").unwrap();
    // What a connection brings: after its opening so many lines, without their times.
    let lines = |count: usize| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(peer::LIMIT)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().skip(3).take(count);
        let texts: Vec<_> = lines.map(|line| line.unwrap().split_once(' ').unwrap().1.to_owned()).collect();
        (stream, texts)
    };
    // The first server has kept one line when it is killed, the second one two of the others.
    let (mut first, texts) = lines(3);
    assert_eq!(texts, ["one", "two", "three"]);
    first.write_all(b"1\n").unwrap();
    first.shutdown(std::net::Shutdown::Write).unwrap();
    drop(first);
    let (mut second, texts) = lines(2);
    assert_eq!(texts, ["two", "three"]);
    second.write_all(b"2\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_server_that_comes_late_gets_every_line() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = agent("walt-log-echo").args(["--server", &address.to_string(), "s", "hello"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let server = Server::start_at(address);
    assert!(child.wait().unwrap().success());
    assert_eq!(server.next(), Said::Opened("s".into(), Timestamps::Inside));
    assert_eq!(server.next(), line("hello"));
}

#[test]
fn times_come_from_where_they_are_wanted_from() {
    let run = |name: &str, options: &[&str], input: &str| {
        let server = Server::start();
        let address = server.address.to_string();
        let mut child = agent(name)
            .args(options)
            .args(["--server", &address, "s", "text"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let success = child.wait().unwrap().success();
        (server, success)
    };
    let (server, success) = run("walt-log-echo", &["--timestamp", "17.25"], "");
    assert!(success);
    assert_eq!([server.next(), server.next()], [Said::Opened("s".into(), Timestamps::Inside), line("text")]);
    let (server, success) = run("walt-log-cat", &["--ts-server"], "one\n");
    assert!(success);
    let unstamped = Said::Line("one".into(), false);
    assert_eq!([server.next(), server.next()], [Said::Opened("s".into(), Timestamps::None), unstamped]);
    // One of the lines has no time: the others are sent, and it is told.
    let (server, success) = run("walt-log-cat", &["--ts-provided"], "1700000000.5 one\noops\n1700000001 two\n");
    assert!(!success);
    assert_eq!(server.next(), Said::Opened("s".into(), Timestamps::Inside));
    assert_eq!([server.next(), server.next()], [line("one"), line("two")]);
    assert!(!run("walt-log-echo", &["--timestamp", "yesterday"], "").1);
}

#[test]
fn monitor_runs_its_command_on_a_terminal_and_returns_its_exit_code() {
    let server = Server::start();
    let address = server.address.to_string();
    let output = agent("walt-log-monitor")
        .args(["--server", &address, "sh", "-c", "test -t 1 && echo terminal; printf end; exit 3"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"terminal\r\nend");
    let said: Vec<_> = (0..4).map(|_| server.next()).collect();
    assert_eq!(said, [Said::Opened("sh".into(), Timestamps::Inside), line("terminal"), line("end"), Said::Closed]);
}

#[test]
fn timeout_ends_a_command_with_its_children() {
    let start = std::time::Instant::now();
    let output = agent("walt-timeout").args(["0.3", "sh", "-c", "sleep 100 & echo $!; wait"]).output().unwrap();
    assert_eq!(output.status.code(), Some(124));
    assert!(start.elapsed() < peer::LIMIT);
    let child = String::from_utf8(output.stdout).unwrap();
    // The signal was sent; that it has arrived, and that somebody has reaped the child, takes a moment.
    let alive =
        || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).is_ok_and(|stat| !stat.contains(") Z "));
    while alive() {
        assert!(start.elapsed() < peer::LIMIT, "its child {child} lives");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
        assert_eq!(agent("walt-timeout").args(["20", "sh", "-c", script]).status().unwrap().code(), Some(code));
    }
    assert_eq!(agent("walt-timeout").args(["soon", "true"]).output().unwrap().status.code(), Some(2));
    assert_eq!(agent("walt-timeout").args(["1", "/no/such"]).output().unwrap().status.code(), Some(127));
}
