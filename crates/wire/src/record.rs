//! Record marking: how ONC-RPC messages follow each other on TCP (RFC 5531 §11).

use std::borrow::Cow;

/// Most fragments of a record: clients send one or a few, and each costs a step whenever more has come.
const FRAGMENTS: usize = 1024;

/// Set in a fragment's header when it is the record's last.
const LAST: u32 = 1 << 31;

/// The peer's stream can't be followed any further: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record of more than {limit} bytes, or of more than {FRAGMENTS} fragments")]
pub struct RecordTooLong {
    /// Most bytes that a record may have, fragment headers included.
    pub limit: usize,
}

/// One record at the start of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The message, its fragments put together.
    pub message: Cow<'a, [u8]>,
    /// Bytes of the stream that the record takes.
    pub taken: usize,
}

/// The first record in `buffer`; `None` if it is not whole yet.
///
/// `limit` bounds the sum of the fragments with their headers, so that neither one huge fragment
/// nor endless empty ones get anywhere.
pub fn next_record(buffer: &[u8], limit: usize) -> Result<Option<Record<'_>>, RecordTooLong> {
    let mut end = 0;
    let mut fragments = 0_usize;
    let last = loop {
        let Some(header) = buffer.get(end..).and_then(|rest| rest.first_chunk()) else { break false };
        let header = u32::from_be_bytes(*header);
        end = end.saturating_add(4).saturating_add((header & !LAST) as usize);
        fragments += 1;
        if end > limit || fragments > FRAGMENTS {
            return Err(RecordTooLong { limit });
        }
        if header & LAST != 0 {
            break true;
        }
    };
    if !last || end > buffer.len() {
        return Ok(None);
    }
    if fragments == 1 {
        return Ok(Some(Record { message: Cow::Borrowed(&buffer[4..end]), taken: end }));
    }
    let mut whole = Vec::with_capacity(end);
    let mut at = 0;
    while let Some(header) = buffer[at..end].first_chunk() {
        let length = (u32::from_be_bytes(*header) & !LAST) as usize;
        whole.extend_from_slice(&buffer[at + 4..at + 4 + length]);
        at += 4 + length;
    }
    Ok(Some(Record { message: Cow::Owned(whole), taken: end }))
}

/// Header of a record of `length` bytes in a single fragment. Lengths of 2 GiB and more can't be said.
pub fn header(length: usize) -> u32 {
    debug_assert!(length < LAST as usize, "a record of ours is far shorter");
    LAST | (length as u32 & !LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(last: bool, body: &[u8]) -> Vec<u8> {
        let mark = (if last { LAST } else { 0 }) | body.len() as u32;
        [&mark.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn rfc5531_section_11_a_record_may_come_in_fragments() {
        let stream =
            [fragment(false, b"ab"), fragment(false, b""), fragment(true, b"c"), fragment(true, b"next")].concat();
        let first = next_record(&stream, 64).unwrap().unwrap();
        assert_eq!(first, Record { message: Cow::Borrowed(b"abc"), taken: 4 + 2 + 4 + 4 + 1 });
        let second = next_record(&stream[first.taken..], 64).unwrap().unwrap();
        assert!(matches!(second, Record { message: Cow::Borrowed(b"next"), taken: 8 }));
    }

    #[test]
    fn an_unfinished_record_waits_at_every_length() {
        let stream = [fragment(false, b"ab"), fragment(true, b"c")].concat();
        for length in 0..stream.len() {
            assert_eq!(next_record(&stream[..length], 64), Ok(None), "{length} bytes");
        }
    }

    #[test]
    fn the_sum_of_the_fragments_is_bounded() {
        assert!(next_record(&u32::MAX.to_be_bytes(), 1 << 20).is_err());
        let empty = fragment(false, b"").repeat(20);
        assert_eq!(next_record(&empty, 64), Err(RecordTooLong { limit: 64 }));
        let many = fragment(false, &[0; 20]).repeat(4);
        assert_eq!(next_record(&many, 64), Err(RecordTooLong { limit: 64 }));
    }
}
