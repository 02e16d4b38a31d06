//! LLDP, as a frame and as a node passes it on: whatever a peer sends, what is understood is printable, short, and said
//! again the same way.
#![no_main]

use wire::lldp::{Id, Neighbour};
use wire::node::Attachment;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(neighbour) = Neighbour::parse(data) {
        let texts = [neighbour.port_description.clone(), neighbour.system_name.clone(), neighbour.port.to_string()];
        texts.iter().for_each(|text| check(text));
        check(&neighbour.chassis.to_string());
        if let Some(attachment) = Attachment::heard([2, 0, 0, 0, 0, 1], &neighbour) {
            let line = attachment.to_string();
            check_chars(&line);
            assert_eq!(Attachment::parse(&line).unwrap().to_string(), line);
        }
    }
    if let [subtype, value @ ..] = data {
        [Id::of_chassis(*subtype, value), Id::of_port(*subtype, value)].iter().flatten().for_each(|id| check(&id.to_string()));
    }
    if let Ok(attachment) = Attachment::parse(&String::from_utf8_lossy(data)) {
        let line = attachment.to_string();
        check_chars(&line);
        assert_eq!(Attachment::parse(&line).unwrap().to_string(), line);
    }
});

fn check(text: &str) {
    assert!(text.len() <= 255, "{}", text.len());
    check_chars(text);
}

fn check_chars(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
