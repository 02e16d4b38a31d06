//! Numbers as tar headers write them.

use crate::Timestamp;

/// A numeric header field: octal digits between spaces and NULs (POSIX.1-2017 pax, "ustar
/// Interchange Format"), or GNU's base-256 with the first bit set. Blank is 0.
pub(super) fn header_number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement without the marker bit; bit 6 is the sign.
        let sign_extended = if first & 0x40 != 0 { i128::from(first) - 0x100 } else { i128::from(first & 0x7f) };
        return rest
            .iter()
            .try_fold(sign_extended, |number, &byte| number.checked_mul(256)?.checked_add(i128::from(byte)))
            .and_then(|number| i64::try_from(number).ok());
    }
    let is_blank = |&b: &u8| b == b' ' || b == 0;
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let (digits, blank) = digits.split_at(digits.iter().position(is_blank).unwrap_or(digits.len()));
    if !blank.iter().all(is_blank) {
        return None;
    }
    digits.iter().try_fold(0i64, |number, &digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// A decimal number without sign, as PAX records and sparse maps have it.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// A PAX time: seconds, perhaps negative, perhaps with a fraction, which is cut to nanoseconds.
pub(super) fn pax_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&b| b == b'.').unwrap_or(text.len());
    let secs = i64::try_from(decimal(&text[..point])?).ok()?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    let mut nanos = 0;
    for place in 0..9.max(fraction.len()) {
        let digit = match fraction.get(place) {
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return None,
            None => 0,
        };
        if place < 9 {
            nanos = nanos * 10 + digit;
        }
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos },
        // -1.25 is 0.75 s after -2.
        (true, _) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_numbers_in_octal_and_base_256() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"77777777777", Some(0o77_777_777_777)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"", None),
            (b"648", None),
            (b"64 4", None),
            (b"-1\0", None),
            (b"\x80\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in cases {
            assert_eq!(header_number(field), *expected, "{field:x?}");
        }
    }

    #[test]
    fn pax_times() {
        let cases: &[(&str, Option<(i64, u32)>)] = &[
            ("0", Some((0, 0))),
            ("1700000000.25", Some((1_700_000_000, 250_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.000000001", Some((-1, 999_999_999))),
            ("5.", Some((5, 0))),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.5x", None),
            ("1e9", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(pax_time(text.as_bytes()).map(|t| (t.secs, t.nanos)), *expected, "{text}");
        }
    }
}
