//! gzip, zstd or nothing: told by the first bytes, decompressed as they come.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::store::LayerError;

/// Where uncompressed bytes go.
pub(crate) trait Output {
    /// Room for more bytes, never empty.
    fn space(&mut self) -> Result<&mut [u8], LayerError>;
    /// The first `len` bytes of the last [`space`](Self::space) are in use now.
    fn advance(&mut self, len: usize) -> Result<(), LayerError>;
}

/// Decompresses one stream.
pub(crate) struct Decompressor {
    state: State,
}

enum State {
    /// Not enough bytes yet to tell the format.
    Undecided(Vec<u8>),
    Plain,
    Gzip(Gzip),
    Zstd(Zstd),
}

/// RFC 1952 §2.2: members simply follow one another.
struct Gzip {
    member: Decompress,
    /// The last member is complete and no other has begun.
    between: bool,
}

struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// The last frame is complete and no other has begun (RFC 8878 §3: frames simply follow one another).
    between: bool,
}

/// Bytes that are needed to tell the format.
const MAGIC: usize = 4;
/// RFC 1952 §2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878 §3.1.1, little-endian.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Window size of zlib, RFC 1951's largest.
const GZIP_WINDOW_BITS: u8 = 15;

impl Decompressor {
    pub(crate) fn new() -> Decompressor {
        Decompressor { state: State::Undecided(Vec::with_capacity(MAGIC)) }
    }

    /// Do these first bytes of a stream belong to a format that is decompressed?
    pub(crate) fn is_compressed(first: [u8; MAGIC]) -> bool {
        first.starts_with(&GZIP_MAGIC) || first == ZSTD_MAGIC
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, mut input: &[u8], out: &mut impl Output) -> Result<(), LayerError> {
        if let State::Undecided(head) = &mut self.state {
            let (first, rest) = input.split_at(input.len().min(MAGIC - head.len()));
            head.extend_from_slice(first);
            if head.len() < MAGIC {
                return Ok(());
            }
            input = rest;
            self.decide(out)?;
        }
        self.state.push(input, out)
    }

    /// The stream is complete.
    pub(crate) fn finish(mut self, out: &mut impl Output) -> Result<(), LayerError> {
        if matches!(self.state, State::Undecided(_)) {
            self.decide(out)?;
        }
        match self.state {
            State::Gzip(Gzip { between: false, .. }) | State::Zstd(Zstd { between: false, .. }) => {
                Err(LayerError::Decompress("the stream ends too early".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn decide(&mut self, out: &mut impl Output) -> Result<(), LayerError> {
        let State::Undecided(head) = &mut self.state else { return Ok(()) };
        let head = std::mem::take(head);
        self.state = if head.starts_with(&GZIP_MAGIC) {
            State::Gzip(Gzip { member: Decompress::new_gzip(GZIP_WINDOW_BITS), between: false })
        } else if head == ZSTD_MAGIC {
            // The decoder itself refuses windows above 128 MiB (ZSTD_WINDOWLOG_LIMIT_DEFAULT).
            State::Zstd(Zstd { decoder: ZstdDecoder::new().map_err(damaged)?, between: false })
        } else {
            State::Plain
        };
        self.state.push(&head, out)
    }
}

impl State {
    fn push(&mut self, input: &[u8], out: &mut impl Output) -> Result<(), LayerError> {
        match self {
            State::Undecided(_) => Ok(()),
            State::Plain => copy(input, out),
            State::Gzip(gzip) => gzip.push(input, out),
            State::Zstd(zstd) => zstd.push(input, out),
        }
    }
}

fn copy(mut input: &[u8], out: &mut impl Output) -> Result<(), LayerError> {
    while !input.is_empty() {
        let space = out.space()?;
        let len = space.len().min(input.len());
        space[..len].copy_from_slice(&input[..len]);
        out.advance(len)?;
        input = &input[len..];
    }
    Ok(())
}

impl Gzip {
    fn push(&mut self, mut input: &[u8], out: &mut impl Output) -> Result<(), LayerError> {
        loop {
            if self.between {
                // Some tools pad the end with zeros; gzip(1) ignores them, so do we.
                let padding = input.iter().take_while(|b| **b == 0).count();
                input = &input[padding..];
                match input.first() {
                    None => return Ok(()),
                    Some(first) if *first == GZIP_MAGIC[0] => {
                        *self = Gzip { member: Decompress::new_gzip(GZIP_WINDOW_BITS), between: false };
                    }
                    Some(_) => return Err(damaged("something follows the end of the gzip stream")),
                }
            }
            let space = out.space()?;
            let room = space.len();
            let (consumed_before, produced_before) = (self.member.total_in(), self.member.total_out());
            let status = self.member.decompress(input, space, FlushDecompress::None).map_err(damaged)?;
            let consumed = (self.member.total_in() - consumed_before) as usize;
            let produced = (self.member.total_out() - produced_before) as usize;
            out.advance(produced)?;
            input = &input[consumed..];
            if status == Status::StreamEnd {
                self.between = true;
                continue;
            }
            // A full output may mean that more of it waits inside.
            if input.is_empty() && produced < room {
                return Ok(());
            }
            if consumed == 0 && produced == 0 {
                return Err(damaged("the gzip stream makes no progress"));
            }
        }
    }
}

impl Zstd {
    fn push(&mut self, input: &[u8], out: &mut impl Output) -> Result<(), LayerError> {
        let mut input = InBuffer::around(input);
        loop {
            if input.pos() == input.src.len() && self.between {
                return Ok(());
            }
            let space = out.space()?;
            let room = space.len();
            let before = input.pos();
            let mut output = OutBuffer::around(space);
            let hint = self.decoder.run(&mut input, &mut output).map_err(damaged)?;
            let produced = output.pos();
            out.advance(produced)?;
            // 0: a frame is complete and all of it is out.
            self.between = hint == 0;
            if input.pos() == input.src.len() && produced < room {
                return Ok(());
            }
            if input.pos() == before && produced == 0 && hint != 0 {
                return Err(damaged("the zstd stream makes no progress"));
            }
        }
    }
}

fn damaged(cause: impl ToString) -> LayerError {
    LayerError::Decompress(cause.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Output in small pieces, so that every boundary is met.
    struct Collected {
        bytes: Vec<u8>,
        piece: Vec<u8>,
    }

    impl Output for Collected {
        fn space(&mut self) -> Result<&mut [u8], LayerError> {
            Ok(&mut self.piece)
        }

        fn advance(&mut self, len: usize) -> Result<(), LayerError> {
            self.bytes.extend_from_slice(&self.piece[..len]);
            Ok(())
        }
    }

    fn run(input: &[u8], step: usize, room: usize) -> Result<Vec<u8>, LayerError> {
        let mut out = Collected { bytes: Vec::new(), piece: vec![0; room] };
        let mut decompressor = Decompressor::new();
        for piece in input.chunks(step) {
            decompressor.push(piece, &mut out)?;
        }
        decompressor.finish(&mut out)?;
        Ok(out.bytes)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 1).unwrap()
    }

    fn sample() -> Vec<u8> {
        (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    #[test]
    fn every_format_in_pieces_of_every_size() {
        let data = sample();
        for packed in [data.clone(), gzip(&data), zstd(&data)] {
            for (step, room) in [(1, 4096), (3, 1), (4096, 4096), (usize::MAX, 512), (usize::MAX, 1 << 20)] {
                assert!(run(&packed, step, room).unwrap() == data, "{step} {room}");
            }
        }
    }

    #[test]
    fn empty_and_tiny_streams() {
        assert_eq!(run(b"", 1, 8).unwrap(), b"");
        assert_eq!(run(b"ab", 1, 8).unwrap(), b"ab");
        assert_eq!(run(&gzip(b""), 1, 8).unwrap(), b"");
        assert_eq!(run(&zstd(b""), 1, 8).unwrap(), b"");
    }

    #[test]
    fn several_members_and_padding() {
        let (a, b) = (sample(), b"more".to_vec());
        let both = [a.clone(), b.clone()].concat();
        let gz = [gzip(&a), gzip(&b), vec![0; 100]].concat();
        let zs = [zstd(&a), zstd(&b)].concat();
        for step in [1, 1000, usize::MAX] {
            assert!(run(&gz, step, 4096).unwrap() == both);
            assert!(run(&zs, step, 4096).unwrap() == both);
        }
    }

    #[test]
    fn names_damage() {
        let data = sample();
        for packed in [gzip(&data), zstd(&data)] {
            let cut = &packed[..packed.len() - 1];
            assert!(matches!(run(cut, 1000, 4096), Err(LayerError::Decompress(_))));
            assert!(matches!(run(&packed[..20], 1000, 4096), Err(LayerError::Decompress(_))));
        }
        let mut damaged = gzip(&data);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(matches!(run(&damaged, 1000, 4096), Err(LayerError::Decompress(_))));
        let trailing = [gzip(&data), b"x".to_vec()].concat();
        assert!(matches!(run(&trailing, 1000, 4096), Err(LayerError::Decompress(_))));
    }
}
