//! The 512-byte header block.

use super::number::header_number;
use super::{BLOCK, TarErrorReason};

/// A header whose checksum is right; fields are read when they are asked for.
#[derive(Debug)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
}

impl<'a> Header<'a> {
    /// POSIX.1-2017 pax, "ustar Interchange Format": the checksum is the sum of all bytes with its
    /// own field taken as spaces. Old tars summed signed bytes; that is accepted, too.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, TarErrorReason> {
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (n, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&n) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        match header_number(&block[148..156]) {
            Some(sum) if sum == unsigned || sum == signed => Ok(Self { block }),
            _ => Err(TarErrorReason::Checksum),
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// Name with the prefix that ustar and star keep apart.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[..100]);
        match until_nul(self.prefix()) {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    fn prefix(&self) -> &'a [u8] {
        match (&self.block[257..265], &self.block[508..512]) {
            // star keeps two times behind a shorter prefix.
            (b"ustar\x0000", b"tar\0") => &self.block[345..476],
            (magic, _) if magic.starts_with(b"ustar\0") => &self.block[345..500],
            // GNU ("ustar  ") has other things there, v7 nothing.
            _ => &[],
        }
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        until_nul(&self.block[157..257])
    }

    pub(super) fn mode(&self) -> Result<u32, TarErrorReason> {
        // Some writers add the file type bits.
        let mode = header_number(&self.block[100..108]).ok_or(TarErrorReason::Number("mode"))?;
        Ok(u32::try_from(mode & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> Result<u32, TarErrorReason> {
        self.number(108, 8, "uid")
    }

    pub(super) fn gid(&self) -> Result<u32, TarErrorReason> {
        self.number(116, 8, "gid")
    }

    pub(super) fn size(&self) -> Result<u64, TarErrorReason> {
        self.number(124, 12, "size")
    }

    pub(super) fn mtime(&self) -> Result<i64, TarErrorReason> {
        self.number(136, 12, "mtime")
    }

    pub(super) fn device(&self) -> Result<(u32, u32), TarErrorReason> {
        Ok((self.number(329, 8, "device number")?, self.number(337, 8, "device number")?))
    }

    /// Old GNU sparse files: up to four runs, more in blocks that follow, the true size.
    pub(super) fn sparse(&self) -> Result<SparseHeader<'a>, TarErrorReason> {
        Ok(SparseHeader {
            runs: &self.block[386..482],
            is_extended: self.block[482] != 0,
            real_size: self.number(483, 12, "size")?,
        })
    }

    fn number<T: TryFrom<i64>>(&self, at: usize, len: usize, what: &'static str) -> Result<T, TarErrorReason> {
        let field = self.block.get(at..at + len).unwrap_or_default();
        header_number(field).and_then(|number| number.try_into().ok()).ok_or(TarErrorReason::Number(what))
    }
}

/// What an old GNU header says of a sparse file.
#[derive(Debug)]
pub(super) struct SparseHeader<'a> {
    pub(super) runs: &'a [u8],
    pub(super) is_extended: bool,
    pub(super) real_size: u64,
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}
