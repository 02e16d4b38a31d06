//! How a log line is printed: format strings as Python has them (its "Format String Syntax"), for the fields `timestamp`,
//! `issuer`, `stream` and `line`.
//!
//! `{timestamp:FORMAT}` takes a format of strftime(3), and `%f` for microseconds; `{issuer:>12}` aligns and widens.

use anyhow::{Context, Error, bail};
use api::LogLine;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// As a line is printed unless something else is wanted.
pub(crate) const DEFAULT: &str = "{timestamp:%H:%M:%S.%f} {issuer}.{stream} -> {line}";

/// Greatest width of a field.
const MAX_WIDTH: usize = 1000;

/// A parsed format string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// strftime's format.
    Time(String),
    Field(Field, Padding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Issuer,
    Stream,
    Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Padding {
    fill: char,
    align: char,
    width: usize,
}

impl Format {
    /// Reads a format string.
    ///
    /// # Errors
    /// A brace stands alone, or a field or its form is not known.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let example = "an example is '{timestamp:%H:%M:%S.%f} {issuer}.{stream} -> {line}'";
            Error::msg(format!("--format {text:?}: {why}; {example}"))
        };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(wrong("a } stands alone; write }} for one to print"));
            }
            let (field, after) =
                rest.split_once('}').ok_or_else(|| wrong("a { has no }; write {{ for one to print"))?;
            rest = after;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::parse(field).map_err(|why| wrong(&why.to_string()))?);
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let format = Self(pieces);
        // What strftime does not know is said before the first line comes.
        let sample = LogLine { timestamp_us: 0, issuer: String::new(), stream: String::new(), line: String::new() };
        format.of(&sample).map_err(|why| wrong(&format!("{why:#}")))?;
        Ok(format)
    }

    /// The line, in this format.
    ///
    /// # Errors
    /// Its time is beyond what a calendar has.
    pub(crate) fn of(&self, line: &LogLine) -> Result<String, Error> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Time(format) => text.push_str(&time(format, line.timestamp_us)?),
                Piece::Field(field, padding) => padding.apply(
                    &mut text,
                    match field {
                        Field::Issuer => &line.issuer,
                        Field::Stream => &line.stream,
                        Field::Line => &line.line,
                    },
                ),
            }
        }
        Ok(text)
    }
}

impl Piece {
    fn parse(text: &str) -> Result<Self, Error> {
        let (name, form) = text.split_once(':').unwrap_or((text, ""));
        let field = match name {
            "timestamp" if form.is_empty() => return Ok(Self::Time("%Y-%m-%d %H:%M:%S.%f".to_owned())),
            "timestamp" => return Ok(Self::Time(form.to_owned())),
            // What WalT called issuers before the server was one.
            "issuer" | "node" | "emitter" => Field::Issuer,
            "stream" => Field::Stream,
            "line" => Field::Line,
            other => bail!("there is no field {other:?}, but timestamp, issuer, stream and line"),
        };
        Ok(Self::Field(field, Padding::parse(form)?))
    }
}

impl Padding {
    /// `[[FILL]ALIGN][WIDTH]`, with `<`, `>` or `^` as ALIGN.
    fn parse(form: &str) -> Result<Self, Error> {
        let is_align = |c: char| ['<', '>', '^'].contains(&c);
        let mut characters = form.chars();
        let (fill, align, width) = match (characters.next(), characters.next()) {
            (Some(fill), Some(align)) if is_align(align) => (fill, align, characters.as_str()),
            (Some(align), _) if is_align(align) => (' ', align, &form[1..]),
            _ => (' ', '<', form),
        };
        let width = match width.strip_suffix('s').unwrap_or(width) {
            "" => 0,
            digits => digits
                .parse()
                .ok()
                .filter(|width| *width <= MAX_WIDTH)
                .with_context(|| format!("{form:?} is no width, such as 12, >12 or ^12"))?,
        };
        Ok(Self { fill, align, width })
    }

    fn apply(self, text: &mut String, value: &str) {
        let missing = self.width.saturating_sub(value.chars().count());
        let before = match self.align {
            '>' => missing,
            '^' => missing / 2,
            _ => 0,
        };
        text.extend(std::iter::repeat_n(self.fill, before));
        text.push_str(value);
        text.extend(std::iter::repeat_n(self.fill, missing - before));
    }
}

/// A moment (microseconds since 1970) in this machine's time zone, by a format of strftime(3) with Python's `%f`.
///
/// # Errors
/// The format is not known, or the moment is beyond the calendar.
pub(crate) fn time(format: &str, at_us: i64) -> Result<String, Error> {
    let zoned = Timestamp::from_microsecond(at_us).context("a time")?.to_zoned(TimeZone::system());
    // Six digits always.
    let mut known = String::with_capacity(format.len() + 2);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        known.push(character);
        if character == '%' {
            match characters.next() {
                Some('f') => known.push_str("6f"),
                other => known.extend(other),
            }
        }
    }
    jiff::fmt::strtime::format(&known, &zoned).with_context(|| format!("the time format {format:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str) -> Result<String, String> {
        let line = LogLine {
            timestamp_us: 1_700_000_000_000_250,
            issuer: "node-1".into(),
            stream: "app".into(),
            line: "{hello}".into(),
        };
        Format::parse(format).and_then(|format| format.of(&line)).map_err(|error| error.to_string())
    }

    #[test]
    fn formats_of_python() {
        for (format, text) in [
            ("{issuer}.{stream} -> {line}", "node-1.app -> {hello}"),
            ("{timestamp:%s.%f}", "1700000000.000250"),
            ("{timestamp:100%% %s}", "100% 1700000000"),
            ("{{{stream}}}", "{app}"),
            ("{issuer:>8}|{stream:.^6}|{stream:<4}|{stream:4}|{line:3}", "  node-1|.app..|app |app |{hello}"),
            ("{node}{stream:s}", "node-1app"),
            ("é{stream}é", "éappé"),
            ("", ""),
        ] {
            assert_eq!(shown(format).as_deref(), Ok(text), "{format}");
        }
        // What a time zone makes of it, its length tells all the same.
        assert_eq!(shown(DEFAULT).unwrap().len(), "22:13:20.000250 node-1.app -> {hello}".len());
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        for (format, why) in [
            ("{line", "has no }"),
            ("line}", "stands alone"),
            ("{}", "no field \"\""),
            ("{text}", "no field \"text\""),
            ("{line:>x}", "no width"),
            ("{line:99999}", "no width"),
            ("{timestamp:%!}", "time format"),
        ] {
            let error = shown(format).unwrap_err();
            assert!(error.contains(why) && error.contains("an example is"), "{format}: {error}");
        }
    }
}
