//! `walt-run`, as an ssh server runs it: with pipes, from a process that may be gone any moment.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const AGENT: &str = env!("CARGO_BIN_EXE_walt-node");

/// Processes that have this word among their arguments, and are not a shell that looks for it.
fn running(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.split(|&b| b == 0).any(|argument| argument == word.as_bytes())).count()
}

fn ends(word: &str) {
    let begun = Instant::now();
    while running(word) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{word} still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_commands_output_and_code_are_its_own() {
    let script = "echo out; echo err >&2; cat; exit 42";
    let mut child = Command::new(AGENT)
        .args(["walt-run", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &output.stdout[..], &output.stderr[..]),
        (Some(42), &b"out\nin"[..], &b"err\n"[..])
    );
}

#[test]
fn it_ends_with_the_process_that_has_started_it() {
    // The shell is the ssh server's process; what it started has children of its own.
    let word = format!("77{}", std::process::id());
    let script = format!("\"$0\" walt-run 'sleep {word} & sleep {word}; true' & wait");
    let mut server = Command::new("sh").args(["-c", &script, AGENT]).spawn().unwrap();
    let begun = Instant::now();
    while running(&word) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill().unwrap();
    server.wait().unwrap();
    ends(&word);
}

#[test]
fn it_ends_when_nobody_was_there_from_the_beginning() {
    let word = format!("78{}", std::process::id());
    // An orphan from its first moment, and nobody at the other ends of its pipes.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("(sleep 1; exec \"$0\" walt-run 'sleep {word}') &"), AGENT]);
    let mut shell = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((shell.stdout.take(), shell.stderr.take()));
    shell.wait().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    ends(&word);
}
