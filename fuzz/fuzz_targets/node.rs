//! The node protocol from both sides: whatever a peer sends, what is understood is said again the same
//! way, stays on one line, and a file capability names nothing outside of the image.
#![no_main]

use wire::node::{Answer, BootStep, FileCapability, MAX_LINE, Request, Session, SessionEvent};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    session(data);
    for line in String::from_utf8_lossy(data).split('\n').filter(|line| line.len() <= MAX_LINE) {
        let _ = Request::check_mode(line);
        if let Ok(request) = Request::parse(line) {
            assert_eq!(Request::parse(&request.to_string()), Ok(request));
        }
        if let Ok(answer) = Answer::parse(line) {
            let said = answer.to_string();
            assert!(!said.chars().any(char::is_control));
            assert_eq!(Answer::parse(&said).map(|again| again.to_string()).as_deref(), Ok(&said[..]));
        }
        if let Ok(step) = BootStep::parse(line) {
            let said = step.to_string();
            assert!(!said.chars().any(char::is_control));
            assert_eq!(BootStep::parse(&said).map(|again| again.to_string()), Ok(said));
        }
        if let Ok(file) = FileCapability::parse(line) {
            assert!(file.path.starts_with(b"/") && !file.path.split(|&b| b == b'/').any(|part| part == b".."));
            assert_eq!(FileCapability::parse(&file.to_string()), Ok(file));
        }
    }
});

/// The server's side of a connection: lines come only from an open stream, and nothing after its end.
fn session(data: &[u8]) {
    let mut session = Session::default();
    let mut open = false;
    for line in data.split(|&b| b == b'\n') {
        match session.line(line) {
            Ok(SessionEvent::Opened(_, name, _)) => {
                assert!(!open && (1..=64).contains(&name.as_str().len()));
                open = true;
            }
            Ok(SessionEvent::Line { .. }) => assert!(open),
            Ok(SessionEvent::Booted) => assert!(!open),
            Ok(SessionEvent::Closed) => {
                assert!(open && session.line(b"x").is_err());
                return;
            }
            Ok(SessionEvent::Nothing) => assert!(!open),
            Err(_) => return,
        }
    }
}
