//! Tars between a node and its server: what an agent writes of a node's changes (a layer of an image, which anybody
//! reads), and files on their way to or from a node (which only our own programs read, see [`Decoder`]).

mod decode;
mod encode;

pub use decode::{Decoder, Member, MemberKind, Next, TarError};
pub use encode::{Entry, Kind, encode, encode_total};

/// Everything in a tar is a multiple of this, in bytes.
pub const BLOCK: usize = 512;

/// What a tar ends with: two blocks of zeros.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Bytes that follow `len` bytes of content, up to the next block.
pub fn padding(len: u64) -> usize {
    // Below 512.
    (len.next_multiple_of(BLOCK as u64).wrapping_sub(len)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decoder makes of the blocks of `tar`, up to its end.
    fn decode(tar: &[u8]) -> Result<(Vec<Next>, Option<u64>), TarError> {
        let (mut decoder, mut all, mut total) = (Decoder::default(), Vec::new(), None);
        let mut blocks = tar.chunks_exact(BLOCK).map(|block| <&[u8; BLOCK]>::try_from(block).unwrap());
        while let Some(block) = blocks.next() {
            let next = decoder.header(block)?;
            match &next {
                Next::Records { len } => {
                    let count = len.div_ceil(BLOCK);
                    let bytes = blocks.by_ref().take(count).flatten().copied().collect::<Vec<_>>();
                    total = decoder.records(&bytes[..*len])?.or(total);
                }
                Next::Member(Member { kind: MemberKind::File { size }, .. }) => {
                    let count = usize::try_from(size.div_ceil(512)).unwrap();
                    assert_eq!(blocks.by_ref().take(count).count(), count);
                }
                _ => {}
            }
            let ended = next == Next::End;
            all.push(next);
            if ended {
                break;
            }
        }
        Ok((all, total))
    }

    fn entry<'a>(path: &'a [u8], kind: Kind<'a>) -> Entry<'a> {
        Entry { path, kind, mode: 0o4751, uid: 70_000_000, gid: 3, mtime: (1_700_000_000, 123), xattrs: &[] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = [b"directory/".to_vec(), vec![b'x'; 250], b"/\xff".to_vec()].concat();
        let target = vec![b't'; 300];
        let mut tar = encode_total(5);
        for (path, kind) in [
            (&b"a/"[..], Kind::Directory),
            (b"a/b", Kind::File { size: 5 }),
            (&long, Kind::Symlink(&target)),
            (b"l", Kind::Symlink(b"../../etc/passwd")),
        ] {
            tar.extend(encode(&entry(path, kind)));
            if matches!(kind, Kind::File { .. }) {
                tar.extend(b"12345");
                tar.extend(vec![0; padding(5)]);
            }
        }
        tar.extend(END);
        let (all, total) = decode(&tar).unwrap();
        let members: Vec<&Member> = all.iter().filter_map(|next| next.member()).collect();
        let member = |path: &[&[u8]], kind| Member {
            path: path.iter().map(|part| part.to_vec()).collect(),
            kind,
            mode: 0o4751,
            mtime: (1_700_000_000, 123),
        };
        assert_eq!(*members[0], member(&[b"a"], MemberKind::Directory));
        assert_eq!(*members[1], member(&[b"a", b"b"], MemberKind::File { size: 5 }));
        assert_eq!(*members[2], member(&[b"directory", &[b'x'; 250], b"\xff"], MemberKind::Symlink(target.clone())));
        assert_eq!(*members[3], member(&[b"l"], MemberKind::Symlink(b"../../etc/passwd".to_vec())));
        assert_eq!(members.len(), 4);
        assert_eq!((total, all.last()), (Some(5), Some(&Next::End)));
    }

    #[test]
    fn names_that_lead_elsewhere_and_what_is_no_file_are_refused() {
        for path in [&b"../a"[..], b"a/", b"/etc/passwd", b"a/../../b", b"a//b", b"./a", b"..", b"", b"a/."] {
            assert!(decode(&encode(&entry(path, Kind::File { size: 0 }))).is_err(), "{}", path.escape_ascii());
        }
        for kind in [Kind::CharDevice(1, 3), Kind::BlockDevice(8, 0), Kind::Fifo, Kind::HardLink(b"a")] {
            assert!(decode(&encode(&entry(b"a", kind))).is_err(), "{kind:?}");
        }
        assert!(decode(&encode(&entry(b"a", Kind::Symlink(b"")))).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        let good = encode(&entry(b"a", Kind::Directory));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            // A changed name or owner of a record's own header is nobody's loss; no panic is what counts there.
            let _ = decode(&bad);
        }
        let mut bad = good.clone();
        let last = bad.len() - BLOCK;
        bad[last] ^= 1;
        assert!(matches!(decode(&bad), Err(TarError::Checksum)));
        // One zero block is no end.
        assert!(decode(&[vec![0; BLOCK], good].concat()).is_err());
    }

    #[test]
    fn real_tars_names_and_sizes() {
        // GNU tar reads what we write, the long names, the large owner and the sparse file included.
        let long = [b"directory/".to_vec(), vec![b'x'; 250]].concat();
        let mut tar = Vec::new();
        for entry in [
            entry(b"plain", Kind::File { size: 3 }),
            Entry { xattrs: &[(b"user.k".to_vec(), b"v\n=".to_vec())], ..entry(&long, Kind::Fifo) },
            entry(b"null", Kind::CharDevice(1, 3)),
            entry(b"link", Kind::HardLink(b"plain")),
            entry(b"holes", Kind::Sparse { size: 1 << 40, runs: &[(4096, 3), (1 << 40, 0)] }),
        ] {
            tar.extend(encode(&entry));
            if entry.kind.content() > 0 {
                tar.extend(b"abc");
                tar.extend(vec![0; padding(3)]);
            }
        }
        tar.extend(END);
        let mut child = std::process::Command::new("tar")
            .args(["-tvf", "-", "--numeric-owner"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("tar is needed");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &tar).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(output.status.success(), "{text}");
        assert_eq!(lines[0][..3], ["-rwsr-x--x", "70000000/3", "3"]);
        assert_eq!(lines[1][5].len(), 260);
        assert_eq!((lines[2][2], lines[3][8]), ("1,3", "plain"));
        assert_eq!((lines[4][2], lines[4][5]), ("1099511627776", "holes"));
    }
}
