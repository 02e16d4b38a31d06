//! SNTP version 4 (RFC 4330, packet format of RFC 5905 §7.3): the messages, what a server answers,
//! and what a client makes of the answer.
//!
//! Local times are nanoseconds since 1970-01-01 UTC in an `i64` (good until 2262). Times on the wire
//! have 32 bits of seconds that wrap in 2036 and every 136 years after; see [`NtpTime::to_unix`].

/// Length of a message without extension fields and authenticator, in bytes.
pub const PACKET_LEN: usize = 48;

/// Seconds from 1900-01-01 to 1970-01-01 (RFC 5905 figure 4).
const UNIX_EPOCH: u64 = 2_208_988_800;
const NANOS: i128 = 1_000_000_000;

/// 2024-01-01T00:00:00Z: no server of ours runs earlier, so wire times are read as those of the 136
/// years that follow it. A client thus gets the right era whatever its own clock says.
pub const ERA_START: i64 = 1_704_067_200_000_000_000;

/// A time on the wire: seconds and 2^-32 s since 1900-01-01, modulo 2^32 s. Zero means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The wire form of `unix` nanoseconds since 1970.
    pub fn from_unix(unix: i64) -> Self {
        let nanos = i128::from(unix) + i128::from(UNIX_EPOCH) * NANOS;
        // Rounded to the nearest 2^-32 s, so that a nanosecond survives the way there and back.
        let fixed = ((nanos << 32) + NANOS / 2).div_euclid(NANOS);
        // Wraps with the era, by definition of the format.
        Self(fixed as u64)
    }

    /// Nanoseconds since 1970 of the one instant in the 2^32 s from `not_before` on that has this
    /// wire form (RFC 4330 §3: the era is not on the wire, the reader must know it).
    pub fn to_unix(self, not_before: i64) -> i64 {
        let since = self.0.wrapping_sub(Self::from_unix(not_before).0);
        let nanos = (i128::from(since) * NANOS + (1 << 31)) >> 32;
        i64::try_from(i128::from(not_before) + nanos).unwrap_or(i64::MAX)
    }
}

/// Leap indicator (RFC 5905 figure 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leap {
    /// No warning.
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
    /// The clock is not synchronised.
    Unknown,
}

/// Who speaks (RFC 5905 figure 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 3: a request.
    Client,
    /// 4: the answer to it.
    Server,
    /// Everything else: symmetric, broadcast, control, private.
    Other(u8),
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Warning of a leap second, or that the clock is not synchronised.
    pub leap: Leap,
    /// Protocol version, 1 to 4.
    pub version: u8,
    /// Who speaks.
    pub mode: Mode,
    /// 0: kiss-o'-death; 1: has a reference clock; 2 to 15: synchronised over the network.
    pub stratum: u8,
    /// Poll interval, log2 seconds.
    pub poll: i8,
    /// Precision of the sender's clock, log2 seconds.
    pub precision: i8,
    /// Round trip to the primary reference, in 2^-16 s.
    pub root_delay: u32,
    /// Largest error against the primary reference, in 2^-16 s.
    pub root_dispersion: u32,
    /// Reference identifier: ASCII for stratum 0 and 1, an opaque server id above.
    pub reference_id: [u8; 4],
    /// When the clock was last set.
    pub reference: NtpTime,
    /// Transmit time of the request that this answers (T1).
    pub originate: NtpTime,
    /// When that request arrived (T2).
    pub receive: NtpTime,
    /// When this message left (T3).
    pub transmit: NtpTime,
}

/// Why bytes are no message that we speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer than [`PACKET_LEN`] bytes.
    #[error("{0} bytes are too few for an NTP packet")]
    TooShort(usize),
    /// A version that has another layout, or none.
    #[error("NTP version {0} is not one of 1 to 4")]
    Version(u8),
}

impl Packet {
    /// Reads the header; extension fields and authenticator after it are ignored
    /// (RFC 4330 §4: they are none of an SNTP party's business).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let Some(header) = bytes.first_chunk::<PACKET_LEN>() else { return Err(ParseError::TooShort(bytes.len())) };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let time = |at: usize| NtpTime(u64::from(word(at)) << 32 | u64::from(word(at + 4)));
        let version = header[0] >> 3 & 7;
        if !(1..=4).contains(&version) {
            return Err(ParseError::Version(version));
        }
        Ok(Self {
            leap: match header[0] >> 6 {
                0 => Leap::None,
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::Unknown,
            },
            version,
            mode: match header[0] & 7 {
                3 => Mode::Client,
                4 => Mode::Server,
                other => Mode::Other(other),
            },
            stratum: header[1],
            poll: i8::from_be_bytes([header[2]]),
            precision: i8::from_be_bytes([header[3]]),
            root_delay: word(4),
            root_dispersion: word(8),
            reference_id: [header[12], header[13], header[14], header[15]],
            reference: time(16),
            originate: time(24),
            receive: time(32),
            transmit: time(40),
        })
    }

    /// The bytes of this message.
    pub fn encode(&self) -> [u8; PACKET_LEN] {
        let leap: u8 = match self.leap {
            Leap::None => 0,
            Leap::Insert => 1,
            Leap::Delete => 2,
            Leap::Unknown => 3,
        };
        let mode = match self.mode {
            Mode::Client => 3,
            Mode::Server => 4,
            Mode::Other(other) => other & 7,
        };
        let mut bytes = [0; PACKET_LEN];
        bytes[0] = leap << 6 | (self.version & 7) << 3 | mode;
        bytes[1] = self.stratum;
        bytes[2] = self.poll.to_be_bytes()[0];
        bytes[3] = self.precision.to_be_bytes()[0];
        bytes[4..8].copy_from_slice(&self.root_delay.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.root_dispersion.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.reference_id);
        for (at, time) in [(16, self.reference), (24, self.originate), (32, self.receive), (40, self.transmit)] {
            bytes[at..at + 8].copy_from_slice(&time.0.to_be_bytes());
        }
        bytes
    }

    /// A client's request. `transmit` comes back as the answer's `originate`: the sender's own time,
    /// or better a random number, which a forger off the path cannot know.
    pub fn request(transmit: NtpTime) -> Self {
        // RFC 4330 §5: a client sets the first byte and may set the transmit timestamp, the rest is 0.
        Self {
            leap: Leap::None,
            version: 4,
            mode: Mode::Client,
            stratum: 0,
            poll: 0,
            precision: 0,
            root_delay: 0,
            root_dispersion: 0,
            reference_id: [0; 4],
            reference: NtpTime(0),
            originate: NtpTime(0),
            receive: NtpTime(0),
            transmit,
        }
    }

    /// A server's answer to `self`, which arrived at `receive` and is answered at `transmit`
    /// (nanoseconds since 1970); `None` if `self` is no client's request.
    pub fn answer(&self, clock: &Clock, receive: i64, transmit: i64) -> Option<Self> {
        if self.mode != Mode::Client {
            return None;
        }
        Some(Self {
            leap: clock.leap,
            // RFC 4330 §6: version and poll of the request come back, its transmit time as originate.
            version: self.version,
            mode: Mode::Server,
            stratum: clock.stratum,
            poll: self.poll,
            precision: clock.precision,
            root_delay: clock.root_delay,
            root_dispersion: clock.root_dispersion,
            reference_id: clock.reference_id,
            reference: NtpTime::from_unix(clock.reference),
            originate: self.transmit,
            receive: NtpTime::from_unix(receive),
            transmit: NtpTime::from_unix(transmit),
        })
    }

    /// Accepts `self` as the answer to a [`request`](Self::request) with this `transmit` time, or
    /// says why not (the sanity checks of RFC 4330 §5).
    pub fn accept(&self, transmit: NtpTime) -> Result<ServerTimes, Rejected> {
        if self.mode != Mode::Server {
            return Err(Rejected::Mode);
        }
        // Checked before anything else is believed: a late duplicate or a forgery has another one.
        if self.originate != transmit {
            return Err(Rejected::Originate);
        }
        if self.stratum == 0 {
            return Err(Rejected::KissOfDeath(self.reference_id));
        }
        if self.leap == Leap::Unknown || self.stratum > 15 {
            return Err(Rejected::Unsynchronised);
        }
        if self.transmit == NtpTime(0) {
            return Err(Rejected::NoTime);
        }
        Ok(ServerTimes { receive: self.receive.to_unix(ERA_START), transmit: self.transmit.to_unix(ERA_START) })
    }
}

/// What a server says of its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Leap warning.
    pub leap: Leap,
    /// Stratum, 1 to 15.
    pub stratum: u8,
    /// Precision, log2 seconds.
    pub precision: i8,
    /// Round trip to the primary reference, in 2^-16 s.
    pub root_delay: u32,
    /// Largest error against the primary reference, in 2^-16 s.
    pub root_dispersion: u32,
    /// Reference identifier.
    pub reference_id: [u8; 4],
    /// When the clock was last set, nanoseconds since 1970.
    pub reference: i64,
}

/// An accepted answer's times by the server's clock, nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTimes {
    /// When the request arrived there (T2).
    pub receive: i64,
    /// When the answer left (T3).
    pub transmit: i64,
}

/// Why a client must not use an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not from a server.
    #[error("the packet is no server's answer")]
    Mode,
    /// Answers another request.
    #[error("the answer is to another request")]
    Originate,
    /// Stratum 0: the server asks us to go away (RFC 4330 §8).
    #[error("the server refuses service (kiss code {})", .0.escape_ascii())]
    KissOfDeath([u8; 4]),
    /// The server says that its clock cannot be trusted.
    #[error("the server's clock is not synchronised")]
    Unsynchronised,
    /// The transmit time is zero.
    #[error("the answer carries no time")]
    NoTime,
}

/// What one exchange says about the local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// What to add to the local clock, in nanoseconds.
    pub offset: i64,
    /// Time on the wire, both ways, in nanoseconds, at least 0. The offset is right within half of it.
    pub delay: i64,
}

/// Offset and delay from the four times of an exchange (RFC 4330 §5): `sent` (T1) and `received` (T4)
/// by the local clock, `server` by the server's. All are whole instants, so no era can get in between:
/// the result is right however wrong the local clock is.
///
/// Results beyond `i64` (a local clock 292 years off) saturate.
pub fn measure(sent: i64, server: ServerTimes, received: i64) -> Measurement {
    let [t1, t2, t3, t4] = [sent, server.receive, server.transmit, received].map(i128::from);
    let saturate = |value: i128| i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX });
    Measurement {
        offset: saturate(((t2 - t1) + (t3 - t4)) / 2),
        // Two clocks of coarse resolution can make it negative (RFC 5905 §8 has the same floor).
        delay: saturate(((t4 - t1) - (t3 - t2)).max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock {
        leap: Leap::None,
        stratum: 3,
        precision: -20,
        root_delay: 1,
        root_dispersion: 2,
        reference_id: [127, 0, 0, 1],
        reference: ERA_START,
    };
    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn times_survive_the_wire_to_the_nanosecond() {
        // 2036-02-07T06:28:16Z is where the 32 bits of seconds wrap.
        let wrap = 2_085_978_496 * SECOND;
        for unix in [ERA_START, ERA_START + 1, wrap - 1, wrap, wrap + 999_999_999, 4_102_444_800 * SECOND] {
            assert_eq!(NtpTime::from_unix(unix).to_unix(ERA_START), unix);
        }
        assert_eq!(NtpTime::from_unix(0).0, UNIX_EPOCH << 32);
        assert_eq!(NtpTime::from_unix(wrap).0, 0);
    }

    #[test]
    fn packets_survive_encoding() {
        for leap in [Leap::None, Leap::Insert, Leap::Delete, Leap::Unknown] {
            for mode in [Mode::Client, Mode::Server, Mode::Other(6)] {
                let packet = Packet {
                    leap,
                    version: 3,
                    mode,
                    stratum: 2,
                    poll: -3,
                    precision: -23,
                    root_delay: 0x0102_0304,
                    root_dispersion: 0x0506_0708,
                    reference_id: *b"LOCL",
                    reference: NtpTime(1),
                    originate: NtpTime(u64::MAX),
                    receive: NtpTime(0x1234_5678_9abc_def0),
                    transmit: NtpTime(4),
                };
                assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
            }
        }
    }

    #[test]
    fn short_and_foreign_packets_are_refused() {
        let bytes = Packet::request(NtpTime(7)).encode();
        for len in 0..PACKET_LEN {
            assert_eq!(Packet::parse(&bytes[..len]), Err(ParseError::TooShort(len)));
        }
        for (first, version) in [(0x03, 0), (0x2b, 5), (0x3b, 7)] {
            let mut foreign = bytes;
            foreign[0] = first;
            assert_eq!(Packet::parse(&foreign), Err(ParseError::Version(version)));
        }
        let mut longer = bytes.to_vec();
        longer.extend([0; 20]);
        assert!(Packet::parse(&longer).is_ok());
    }

    #[test]
    fn rfc4330_section_6_a_server_answers_clients_alone() {
        let mut request = Packet::request(NtpTime(99));
        request.version = 3;
        request.poll = 6;
        let answer = request.answer(&CLOCK, ERA_START, ERA_START + 5).unwrap();
        assert_eq!((answer.mode, answer.version, answer.poll), (Mode::Server, 3, 6));
        assert_eq!(answer.originate, NtpTime(99));
        assert_eq!(answer.stratum, 3);
        for mode in [Mode::Server, Mode::Other(1), Mode::Other(5), Mode::Other(6)] {
            assert_eq!(Packet { mode, ..request }.answer(&CLOCK, 0, 0), None);
        }
    }

    #[test]
    fn rfc4330_section_5_sanity_checks() {
        let good = Packet::request(NtpTime(99)).answer(&CLOCK, ERA_START, ERA_START + 5).unwrap();
        assert_eq!(good.accept(NtpTime(99)), Ok(ServerTimes { receive: ERA_START, transmit: ERA_START + 5 }));
        let cases = [
            (Packet { mode: Mode::Client, ..good }, Rejected::Mode),
            (Packet { originate: NtpTime(98), ..good }, Rejected::Originate),
            (Packet { stratum: 0, reference_id: *b"RATE", ..good }, Rejected::KissOfDeath(*b"RATE")),
            (Packet { leap: Leap::Unknown, ..good }, Rejected::Unsynchronised),
            (Packet { stratum: 16, ..good }, Rejected::Unsynchronised),
            (Packet { transmit: NtpTime(0), ..good }, Rejected::NoTime),
        ];
        for (packet, why) in cases {
            assert_eq!(packet.accept(NtpTime(99)), Err(why));
        }
    }

    #[test]
    fn rfc4330_section_5_offset_and_delay() {
        // 3 ms there, 1 ms in the server, 3 ms back, from clocks of any year.
        let ms = 1_000_000;
        for local in [0, 978_307_200 * SECOND, ERA_START, 4_000_000_000 * SECOND] {
            for server in [ERA_START, 2_085_978_496 * SECOND - 2 * ms, 5_000_000_000 * SECOND] {
                let request = Packet::request(NtpTime(1));
                let answer = request.answer(&CLOCK, server, server + ms).unwrap();
                let answer = Packet::parse(&answer.encode()).unwrap();
                let times = answer.accept(NtpTime(1)).unwrap();
                let measured = measure(local, times, local + 7 * ms);
                assert_eq!(measured, Measurement { offset: server - (local + 3 * ms), delay: 6 * ms });
            }
        }
        let backwards = measure(10, ServerTimes { receive: 0, transmit: 50 }, 20);
        assert_eq!(backwards.delay, 0);
        assert_eq!(measure(i64::MIN, ServerTimes { receive: i64::MAX, transmit: i64::MAX }, i64::MIN).offset, i64::MAX);
    }
}
