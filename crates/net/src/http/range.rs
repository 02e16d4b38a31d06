//! The header `Range` (RFC 9110 §14.2).

use std::ops::Range;

/// What a request wants of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes beyond its end.
    Unsatisfiable,
}

/// Reads the value of `Range` for a file of `size` bytes.
///
/// RFC 9110 §14.2: a server may ignore the header. We do for other units, for what is malformed, and
/// for several ranges at once: no bootloader asks for them, and each costs a copy.
pub(super) fn wanted(header: &str, size: u64) -> Wanted {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Number::Some(first), Number::Absent) if first < size => Wanted::Part(first..size),
        (Number::Some(first), Number::Some(last)) if first <= last && first < size => {
            Wanted::Part(first..size.min(last.saturating_add(1)))
        }
        (Number::Some(first), Number::Some(last)) if first > last => Wanted::Whole,
        (Number::Some(_), Number::Absent | Number::Some(_)) => Wanted::Unsatisfiable,
        // The last so many bytes; all of them if there are fewer.
        (Number::Absent, Number::Some(count)) if count > 0 && size > 0 => {
            Wanted::Part(size.saturating_sub(count)..size)
        }
        (Number::Absent, Number::Some(_)) => Wanted::Unsatisfiable,
        _ => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Some(u64),
    Malformed,
}

fn number(text: &str) -> Number {
    match text.trim() {
        "" => Number::Absent,
        digits if !digits.bytes().all(|byte| byte.is_ascii_digit()) => Number::Malformed,
        // More digits than 64 bits hold mean a place beyond the end of any file.
        digits => Number::Some(digits.parse().unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_section_14_ranges() {
        for (header, size, expected) in [
            ("bytes=0-", 10, Wanted::Part(0..10)),
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=3-5", 10, Wanted::Part(3..6)),
            ("bytes=9-9", 10, Wanted::Part(9..10)),
            ("bytes=9-99", 10, Wanted::Part(9..10)),
            (" bytes= 3 - 5 ", 10, Wanted::Part(3..6)),
            ("bytes=3-99999999999999999999999", 10, Wanted::Part(3..10)),
            ("bytes=-3", 10, Wanted::Part(7..10)),
            ("bytes=-30", 10, Wanted::Part(0..10)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=10-12", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-5", 0, Wanted::Unsatisfiable),
            ("bytes=5-3", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("lines=1-2", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(header, size), expected, "{header} of {size}");
        }
    }
}
