//! What a person's ssh client asks the agent in the daemon, and what a node sends as files: no name leads out of the
//! directory that it is for, and nothing but a login is taken for one.
#![no_main]

use wire::ssh_agent::{Request, UserAuth};
use wire::tar::{BLOCK, Decoder, Entry, Kind, MemberKind, Next, encode};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(Request::Sign { key, data: signed }) = Request::parse(data) {
        assert!(key.len() + signed.len() + 13 == data.len());
    }
    if let Ok(login) = UserAuth::parse(data) {
        let holds = |part: &[u8]| data.windows(part.len().max(1)).any(|window| window == part) || part.is_empty();
        assert!(holds(b"ssh-connection") && holds(login.key) && login.host_key.is_none_or(holds));
    }
    files(data);
});

fn files(data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut blocks = data.chunks_exact(BLOCK);
    while let Some(block) = blocks.next() {
        let Ok(next) = decoder.header(block.try_into().unwrap()) else { return };
        match next {
            Next::Records { len } => {
                let bytes: Vec<u8> = blocks.by_ref().take(len.div_ceil(BLOCK)).flatten().copied().collect();
                if bytes.len() < len || decoder.records(&bytes[..len]).is_err() {
                    return;
                }
            }
            Next::Member(member) => {
                assert!(!member.path.is_empty() && member.mtime.1 < 1_000_000_000 && member.mode <= 0o7777);
                for name in &member.path {
                    assert!(!matches!(&name[..], b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0));
                }
                // What is understood is written and read again the same way.
                let path = member.path.join(&b'/');
                let kind = match &member.kind {
                    MemberKind::File { size } => Kind::File { size: *size },
                    MemberKind::Directory => Kind::Directory,
                    MemberKind::Symlink(target) => Kind::Symlink(target),
                };
                let entry =
                    Entry { path: &path, kind, mode: member.mode, uid: 0, gid: 0, mtime: member.mtime, xattrs: &[] };
                assert_eq!(again(&encode(&entry)), Some(member));
            }
            Next::Ending => {}
            Next::End => return,
        }
    }
}

fn again(header: &[u8]) -> Option<wire::tar::Member> {
    let mut decoder = Decoder::default();
    let mut blocks = header.chunks_exact(BLOCK);
    while let Some(block) = blocks.next() {
        match decoder.header(block.try_into().ok()?).ok()? {
            Next::Records { len } => {
                let bytes: Vec<u8> = blocks.by_ref().take(len.div_ceil(BLOCK)).flatten().copied().collect();
                decoder.records(&bytes[..len]).ok()?;
            }
            Next::Member(member) => return Some(member),
            _ => return None,
        }
    }
    None
}
