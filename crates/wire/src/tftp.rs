//! TFTP messages (RFC 1350) with options (RFC 2347, 2348, 2349, 7440).

/// Largest block (RFC 2348), in bytes: a datagram of 65507 bytes less headers, rounded by the RFC.
pub const MAX_BLKSIZE: u16 = 65464;
/// Block size without the option (RFC 1350 §2), in bytes.
pub const DEFAULT_BLKSIZE: u16 = 512;
/// Longest request that is read, in bytes. RFC 2347 allows 512; a long path in an image may need more.
pub const MAX_REQUEST: usize = 1400;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ: asks to read a file.
    Read(Request<'a>),
    /// WRQ: asks to write a file.
    Write(Request<'a>),
    /// DATA: one block.
    Data {
        /// Block number, rolling over from 65535 to 0.
        block: u16,
        /// Its bytes; fewer than the block size in the last one.
        data: &'a [u8],
    },
    /// ACK: everything up to this block arrived.
    Ack {
        /// Block number; 0 acknowledges an OACK.
        block: u16,
    },
    /// ERROR: ends the transfer at once, is never answered.
    Error {
        /// Kind of error.
        code: ErrorCode,
        /// Text for people, without its final NUL.
        message: &'a [u8],
    },
    /// OACK: options that the server agrees to.
    OptionAck(Options),
}

/// Body of RRQ and WRQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Path, at least one byte, no NUL in it.
    pub path: &'a [u8],
    /// How bytes are to be represented.
    pub mode: Mode,
    /// Options asked for.
    pub options: Options,
}

/// Representation of the bytes of a file (RFC 1350 §5), in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `octet`: as they are.
    Octet,
    /// `netascii`: line ends translated.
    NetAscii,
    /// `mail` and whatever else.
    Other,
}

/// Options (RFC 2347); `None` if not mentioned, or mentioned with a value that the option does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `blksize` (RFC 2348): bytes in a block, `8..=65464`.
    pub blksize: Option<u16>,
    /// `timeout` (RFC 2349): seconds before a retransmission, `1..=255`.
    pub timeout: Option<u8>,
    /// `tsize` (RFC 2349): 0 asks for the size of the file, the answer gives it.
    pub tsize: Option<u64>,
    /// `windowsize` (RFC 7440): blocks sent before an acknowledgement is awaited, `1..=65535`.
    pub windowsize: Option<u16>,
}

impl Options {
    /// True if no option is set: the transfer follows RFC 1350 alone.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        // RFC 2347: names are case-insensitive; values are ASCII; an option that we do not know is
        // ignored, one that is mentioned twice counts once.
        let Some(value) = decimal(value) else { return };
        if name.eq_ignore_ascii_case(b"blksize") {
            // RFC 2348: the answer may be smaller than the wish, so a wish above the limit is the limit.
            self.blksize = self.blksize.or((value >= 8).then(|| saturating_u16(value).min(MAX_BLKSIZE)));
        } else if name.eq_ignore_ascii_case(b"timeout") {
            self.timeout = self.timeout.or(u8::try_from(value).ok().filter(|seconds| *seconds > 0));
        } else if name.eq_ignore_ascii_case(b"tsize") {
            self.tsize = self.tsize.or(Some(value));
        } else if name.eq_ignore_ascii_case(b"windowsize") {
            self.windowsize = self.windowsize.or((value > 0).then(|| saturating_u16(value)));
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let all = [
            ("blksize", self.blksize.map(u64::from)),
            ("timeout", self.timeout.map(u64::from)),
            ("tsize", self.tsize),
            ("windowsize", self.windowsize.map(u64::from)),
        ];
        for (name, value) in all {
            if let Some(value) = value {
                push_string(out, name.as_bytes());
                push_string(out, value.to_string().as_bytes());
            }
        }
    }
}

/// Error codes (RFC 1350 appendix, RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0: see the message.
    Undefined,
    /// 1: file not found.
    NotFound,
    /// 2: access violation.
    AccessViolation,
    /// 4: illegal operation.
    IllegalOperation,
    /// 5: unknown transfer id.
    UnknownTransfer,
    /// 8: the options cannot be agreed on.
    OptionsRefused,
    /// 3, 6, 7 and numbers that no RFC has given out.
    Other(u16),
}

impl ErrorCode {
    fn number(self) -> u16 {
        match self {
            Self::Undefined => 0,
            Self::NotFound => 1,
            Self::AccessViolation => 2,
            Self::IllegalOperation => 4,
            Self::UnknownTransfer => 5,
            Self::OptionsRefused => 8,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Undefined,
            1 => Self::NotFound,
            2 => Self::AccessViolation,
            4 => Self::IllegalOperation,
            5 => Self::UnknownTransfer,
            8 => Self::OptionsRefused,
            other => Self::Other(other),
        }
    }
}

/// Why bytes are no TFTP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than its fixed fields.
    #[error("the packet is cut short")]
    TooShort,
    /// No RFC knows this opcode.
    #[error("opcode {0} is unknown")]
    Opcode(u16),
    /// A string without its final NUL.
    #[error("a string does not end")]
    Unterminated,
    /// A request for the empty path.
    #[error("the request names no file")]
    EmptyPath,
    /// A request beyond [`MAX_REQUEST`].
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (opcode, body) = split_u16(bytes)?;
        match opcode {
            RRQ => Request::parse(bytes, body).map(Self::Read),
            WRQ => Request::parse(bytes, body).map(Self::Write),
            DATA => split_u16(body).map(|(block, data)| Self::Data { block, data }),
            // Bytes after the block number occur (padding to the Ethernet minimum by boot ROMs).
            ACK => split_u16(body).map(|(block, _)| Self::Ack { block }),
            ERROR => {
                let (code, text) = split_u16(body)?;
                // Some clients leave the final NUL out; what counts is that they stopped.
                let message = text.split(|byte| *byte == 0).next().unwrap_or_default();
                Ok(Self::Error { code: ErrorCode::from_number(code), message })
            }
            OACK => parse_options(body).map(Self::OptionAck),
            other => Err(ParseError::Opcode(other)),
        }
    }

    /// Appends the bytes of this message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Read(request) => request.encode(RRQ, out),
            Self::Write(request) => request.encode(WRQ, out),
            Self::Data { block, data } => {
                out.extend(data_header(*block));
                out.extend_from_slice(data);
            }
            Self::Ack { block } => {
                out.extend(ACK.to_be_bytes());
                out.extend(block.to_be_bytes());
            }
            Self::Error { code, message } => {
                out.extend(ERROR.to_be_bytes());
                out.extend(code.number().to_be_bytes());
                push_string(out, message);
            }
            Self::OptionAck(options) => {
                out.extend(OACK.to_be_bytes());
                options.encode(out);
            }
        }
    }

    /// The bytes of this message.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// The four bytes before the data of a DATA message: for a sender that lays out blocks itself.
pub fn data_header(block: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (DATA.to_be_bytes(), block.to_be_bytes());
    [a, b, c, d]
}

impl<'a> Request<'a> {
    fn parse(whole: &'a [u8], body: &'a [u8]) -> Result<Self, ParseError> {
        if whole.len() > MAX_REQUEST {
            return Err(ParseError::TooLong);
        }
        let (path, rest) = split_string(body)?;
        let (mode, rest) = split_string(rest)?;
        if path.is_empty() {
            return Err(ParseError::EmptyPath);
        }
        let mode = if mode.eq_ignore_ascii_case(b"octet") {
            Mode::Octet
        } else if mode.eq_ignore_ascii_case(b"netascii") {
            Mode::NetAscii
        } else {
            Mode::Other
        };
        Ok(Self { path, mode, options: parse_options(rest)? })
    }

    fn encode(&self, opcode: u16, out: &mut Vec<u8>) {
        out.extend(opcode.to_be_bytes());
        push_string(out, self.path);
        push_string(
            out,
            match self.mode {
                Mode::Octet => b"octet",
                Mode::NetAscii => b"netascii",
                Mode::Other => b"mail",
            },
        );
        self.options.encode(out);
    }
}

fn parse_options(mut rest: &[u8]) -> Result<Options, ParseError> {
    let mut options = Options::default();
    // A final name without a value, and padding, end the list: boot ROMs send both.
    while let Some(first) = rest.first() {
        if *first == 0 {
            break;
        }
        let (name, after) = split_string(rest)?;
        if after.is_empty() {
            break;
        }
        let (value, after) = split_string(after)?;
        options.set(name, value);
        rest = after;
    }
    Ok(options)
}

fn split_u16(bytes: &[u8]) -> Result<(u16, &[u8]), ParseError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(ParseError::TooShort)?;
    Ok((u16::from_be_bytes(*head), rest))
}

fn split_string(bytes: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(ParseError::Unterminated)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn push_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend(string.iter().copied().filter(|byte| *byte != 0));
    out.push(0);
}

/// ASCII decimal; `None` for anything else, a sign and values beyond 64 bits included.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn saturating_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_encoding() {
        let options = Options { blksize: Some(1468), timeout: Some(2), tsize: Some(0), windowsize: Some(64) };
        let request = Request { path: b"boot/PC Engines", mode: Mode::Octet, options };
        for packet in [
            Packet::Read(request.clone()),
            Packet::Write(Request { mode: Mode::NetAscii, options: Options::default(), ..request }),
            Packet::Data { block: 65535, data: b"" },
            Packet::Data { block: 0, data: b"x\0y" },
            Packet::Ack { block: 258 },
            Packet::Error { code: ErrorCode::NotFound, message: b"no such file" },
            Packet::Error { code: ErrorCode::Other(6), message: b"" },
            Packet::OptionAck(Options { tsize: Some(u64::MAX), ..options }),
        ] {
            assert_eq!(Packet::parse(&packet.to_vec()), Ok(packet));
        }
        assert_eq!(Packet::Ack { block: 258 }.to_vec(), [0, 4, 1, 2]);
        assert_eq!(Packet::Data { block: 1, data: b"z" }.to_vec(), [0, 3, 0, 1, b'z']);
    }

    #[test]
    fn malformed_packets_are_named() {
        for (bytes, why) in [
            (&b""[..], ParseError::TooShort),
            (b"\0", ParseError::TooShort),
            (b"\0\x04\0", ParseError::TooShort),
            (b"\0\x03\0", ParseError::TooShort),
            (b"\0\x09\0\0", ParseError::Opcode(9)),
            (b"\0\x01", ParseError::Unterminated),
            (b"\0\x01file", ParseError::Unterminated),
            (b"\0\x01file\0octet", ParseError::Unterminated),
            (b"\0\x01file\0octet\0blksize\x00512", ParseError::Unterminated),
            (b"\0\x01\0octet\0", ParseError::EmptyPath),
        ] {
            assert_eq!(Packet::parse(bytes), Err(why), "{}", bytes.escape_ascii());
        }
        let long = [b"\0\x01".as_slice(), &[b'a'; MAX_REQUEST], b"\0octet\0"].concat();
        assert_eq!(Packet::parse(&long), Err(ParseError::TooLong));
    }

    #[test]
    fn rfc2347_options_are_case_insensitive_and_the_unknown_are_ignored() {
        let bytes = b"\0\x01f\0OCTET\0BlkSize\x001428\0colour\0red\0TSIZE\x000\0multicast\0\0windowSize\x0016\0";
        let Ok(Packet::Read(request)) = Packet::parse(bytes) else { panic!() };
        assert_eq!(request.mode, Mode::Octet);
        assert_eq!(
            request.options,
            Options { blksize: Some(1428), tsize: Some(0), windowsize: Some(16), timeout: None }
        );
    }

    #[test]
    fn option_values_out_of_range() {
        for (text, options) in [
            (&b"blksize\x007\0"[..], Options::default()),
            (b"blksize\x0065464\0", Options { blksize: Some(65464), ..Options::default() }),
            (b"blksize\x0065465\0", Options { blksize: Some(65464), ..Options::default() }),
            (b"blksize\x0099999999999\0", Options { blksize: Some(65464), ..Options::default() }),
            (b"blksize\x00-1\0", Options::default()),
            (b"blksize\x00+512\0", Options::default()),
            (b"blksize\x00\0", Options::default()),
            (b"blksize\0", Options::default()),
            (b"blksize\x00512\0blksize\x001024\0", Options { blksize: Some(512), ..Options::default() }),
            (b"timeout\x000\0", Options::default()),
            (b"timeout\x00256\0", Options::default()),
            (b"timeout\x00255\0", Options { timeout: Some(255), ..Options::default() }),
            (b"windowsize\x000\0", Options::default()),
            (b"windowsize\x0070000\0", Options { windowsize: Some(65535), ..Options::default() }),
            (b"tsize\x0018446744073709551616\0", Options::default()),
            (b"tsize\x000\0\0\0\0", Options { tsize: Some(0), ..Options::default() }),
        ] {
            let bytes = [b"\0\x01f\0octet\0", text].concat();
            let Ok(Packet::Read(request)) = Packet::parse(&bytes) else { panic!("{}", bytes.escape_ascii()) };
            assert_eq!(request.options, options, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn acks_may_be_padded_and_errors_unterminated() {
        assert_eq!(Packet::parse(b"\0\x04\0\x07\0\0\0\0\0\0"), Ok(Packet::Ack { block: 7 }));
        assert_eq!(
            Packet::parse(b"\0\x05\0\x08User aborted"),
            Ok(Packet::Error { code: ErrorCode::OptionsRefused, message: b"User aborted" })
        );
    }

    #[test]
    fn a_message_never_carries_a_second_string() {
        let bytes = Packet::Error { code: ErrorCode::Undefined, message: b"a\0b" }.to_vec();
        assert_eq!(bytes, b"\0\x05\0\0ab\0");
    }
}
