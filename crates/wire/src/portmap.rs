//! The port mapper, version 2 (RFC 1833 §3).

use crate::xdr::{Reader, Writer, XdrError};

/// Program number.
pub const PROGRAM: u32 = 100_000;
/// The version served; rpcbind's versions 3 and 4 are not.
pub const VERSION: u32 = 2;
/// Port of TCP and UDP.
pub const PORT: u16 = 111;

/// `IPPROTO_TCP` in a mapping.
pub const TCP: u32 = 6;
/// `IPPROTO_UDP` in a mapping.
pub const UDP: u32 = 17;

/// PMAPPROC_NULL.
pub const NULL: u32 = 0;
/// PMAPPROC_SET.
pub const SET: u32 = 1;
/// PMAPPROC_UNSET.
pub const UNSET: u32 = 2;
/// PMAPPROC_GETPORT.
pub const GETPORT: u32 = 3;
/// PMAPPROC_DUMP.
pub const DUMP: u32 = 4;
/// PMAPPROC_CALLIT.
pub const CALLIT: u32 = 5;

/// One (program, version, protocol) and its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// [`TCP`] or [`UDP`].
    pub protocol: u32,
    /// Port, 0 if not registered; ignored in GETPORT's argument.
    pub port: u32,
}

impl Mapping {
    /// Reads a mapping.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        Ok(Self { program: reader.u32()?, version: reader.u32()?, protocol: reader.u32()?, port: reader.u32()? })
    }

    /// Writes a mapping.
    pub fn encode(&self, out: &mut Writer) {
        for word in [self.program, self.version, self.protocol, self.port] {
            out.u32(word);
        }
    }
}

/// Writes DUMP's result: each mapping behind a TRUE, FALSE at the end.
pub fn encode_dump(out: &mut Writer, mappings: &[Mapping]) {
    for mapping in mappings {
        out.bool(true);
        mapping.encode(out);
    }
    out.bool(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1833_section_3_dump_is_a_list() {
        let mapping = Mapping { program: 100_003, version: 3, protocol: TCP, port: 2049 };
        let mut out = Writer::new();
        encode_dump(&mut out, &[mapping]);
        let mut reader = Reader::new(out.bytes());
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(Mapping::decode(&mut reader), Ok(mapping));
        assert_eq!(reader.bool(), Ok(false));
        assert!(reader.rest().is_empty());
    }
}
