//! Data types of the SSH protocols (RFC 4251 §5).

/// Adds a string: its length, and its bytes, of which there are fewer than 4 GiB.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// What is left to be read. Each method takes a value off, or gives `None` if there is no whole one.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number of 32 bits.
    pub fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// A string.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4251_section_5_data_types() {
        let mut bytes = vec![7];
        push_string(&mut bytes, b"testing");
        assert_eq!(bytes[1..5], [0, 0, 0, 7]);
        let mut fields = Fields(&bytes);
        assert_eq!((fields.byte(), fields.string(), fields.byte()), (Some(7), Some(&b"testing"[..]), None));
        for cut in 1..bytes.len() {
            assert_eq!(Fields(&bytes[1..cut]).string(), None, "{cut} bytes");
        }
    }
}
