//! Ranges of time, as people write them.

/// From when, included, until when, not included: microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First moment.
    pub from_us: i64,
    /// First moment that is too late.
    pub until_us: i64,
}

/// The text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither a keyword nor two ends.
    #[error("{0:?} is not a range of log lines")]
    NoRange(String),
    /// An end that begins with `-` is no offset.
    #[error("{0:?} is not a time before now, such as -40s, -5m, -1h or -10d")]
    BadOffset(String),
    /// An end is no offset, and there is no checkpoint of this name.
    #[error("you have no checkpoint {0:?}")]
    UnknownCheckpoint(String),
    /// The range ends before it begins.
    #[error("the range {0:?} ends before it begins")]
    Backwards(String),
}

impl Range {
    /// All of the past.
    pub const FULL: Self = Self { from_us: i64::MIN, until_us: i64::MAX };

    /// Reads `full`, `none` (which gives `None`), or `[START]:[END]`, where an end is an offset from now (`-40s`, `-5m`,
    /// `-1h`, `-10d`) or the name of a checkpoint.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(
        text: &str,
        now_us: i64,
        checkpoint: impl Fn(&str) -> Option<i64>,
    ) -> Result<Option<Self>, RangeError> {
        let end = |text: &str, open: i64| match text {
            "" => Ok(open),
            _ if text.starts_with('-') => offset_us(text).map(|offset| now_us.saturating_sub(offset)),
            name => checkpoint(name).ok_or_else(|| RangeError::UnknownCheckpoint(name.to_owned())),
        };
        match text {
            "none" => Ok(None),
            "full" => Ok(Some(Self::FULL)),
            _ => {
                let (from, until) = text.split_once(':').ok_or_else(|| RangeError::NoRange(text.to_owned()))?;
                let range = Self { from_us: end(from, i64::MIN)?, until_us: end(until, i64::MAX)? };
                if range.from_us > range.until_us {
                    return Err(RangeError::Backwards(text.to_owned()));
                }
                Ok(Some(range))
            }
        }
    }
}

/// Microseconds of `-5m`.
fn offset_us(text: &str) -> Result<i64, RangeError> {
    let bad = || RangeError::BadOffset(text.to_owned());
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(bad()),
    };
    let number = &text[1..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let seconds = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit * 1_000_000));
    seconds.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000_000;
    const MINUTE: i64 = 60_000_000;

    fn parse(text: &str) -> Result<Option<Range>, RangeError> {
        Range::parse(text, NOW, |name| (name == "begun").then_some(NOW - 7 * MINUTE))
    }

    #[test]
    fn every_form() {
        for (text, from_us, until_us) in [
            ("full", i64::MIN, i64::MAX),
            (":", i64::MIN, i64::MAX),
            ("-5m:", NOW - 5 * MINUTE, i64::MAX),
            (":-40s", i64::MIN, NOW - 40_000_000),
            ("-10d:-1h", NOW - 14_400 * MINUTE, NOW - 60 * MINUTE),
            ("begun:", NOW - 7 * MINUTE, i64::MAX),
            ("begun:-5m", NOW - 7 * MINUTE, NOW - 5 * MINUTE),
        ] {
            assert_eq!(parse(text), Ok(Some(Range { from_us, until_us })), "{text}");
        }
        assert_eq!(parse("none"), Ok(None));
    }

    #[test]
    fn what_is_none_is_told() {
        for text in ["", "5m", "yesterday"] {
            assert_eq!(parse(text), Err(RangeError::NoRange(text.into())));
        }
        for text in ["-5", "-m", "-5x", "--5m", "-+5m", "-99999999999999999d", "-5é"] {
            assert_eq!(parse(&format!("{text}:")), Err(RangeError::BadOffset(text.into())));
        }
        assert_eq!(parse("ended:"), Err(RangeError::UnknownCheckpoint("ended".into())));
        assert_eq!(parse("-1m:-5m"), Err(RangeError::Backwards("-1m:-5m".into())));
    }
}
