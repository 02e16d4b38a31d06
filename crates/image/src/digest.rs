//! Content digests: SHA-256 alone, the algorithm that every registry and image of today uses.

use std::fmt;
use std::str::FromStr;

use crate::DiffId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256 digest, written `sha256:<64 lower-case hex digits>` (OCI image spec, descriptor.md § Digests).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// No `algorithm:` before the digits, or digits that are not 64 lower-case hexadecimal ones.
    #[error("`{0}` is no digest: expected sha256: and 64 lower-case hex digits")]
    Malformed(String),
    /// Another algorithm (`sha512` is the only other registered one).
    #[error("digest algorithm `{0}` is not supported, only sha256 is")]
    Algorithm(String),
}

impl Digest {
    /// Digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 32 bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hex digits, as used in file names.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from(DIGITS[usize::from(d)])).collect()
    }

    /// Parses what [`hex`](Self::hex) prints; upper-case digits are refused, so that one digest has one file name.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let mut bytes = [0; 32];
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex_value(*high)? << 4 | hex_value(*low)?;
        }
        Some(Digest(bytes))
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Digest, ParseDigestError> {
        // What comes from outside is shortened before it goes into a message.
        let shown = || text.chars().take(100).collect::<String>();
        match text.split_once(':') {
            Some(("sha256", hex)) => Digest::from_hex(hex).ok_or_else(|| ParseDigestError::Malformed(shown())),
            Some((algorithm, _)) => Err(ParseDigestError::Algorithm(algorithm.chars().take(32).collect())),
            None => Err(ParseDigestError::Malformed(shown())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<Digest> for DiffId {
    fn from(digest: Digest) -> DiffId {
        DiffId::from_bytes(digest.0)
    }
}

/// Digest of an image's configuration: the identity of an image, whatever its names and however
/// its layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageDigest(pub Digest);

impl ImageDigest {
    /// The 64 hex digits.
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ImageDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<ImageDigest, ParseDigestError> {
        text.parse().map(ImageDigest)
    }
}

/// SHA-256 of a stream.
// ring picks the CPU's SHA instructions, or else AVX, at run time; it is in the tree for TLS anyway.
#[derive(Clone)]
pub struct Hasher(ring::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Hasher::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// Nothing hashed so far.
    pub fn new() -> Hasher {
        Hasher(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Digest of all that was added.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn of_a_known_text() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse::<Digest>().unwrap(), Digest::of(b"abc"));
    }

    #[test]
    fn a_stream_hashes_as_its_sum() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in ["", "abc", "sha256:", "sha256:ab", &ABC.to_uppercase(), &format!("{ABC}0"), "sha256:../../etc"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(matches!("sha512:ab".parse::<Digest>(), Err(ParseDigestError::Algorithm(a)) if a == "sha512"));
    }

    #[test]
    fn json_is_the_text_form() {
        let digest: Digest = serde_json::from_str(&format!("\"{ABC}\"")).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{ABC}\""));
        assert!(serde_json::from_str::<Digest>("\"sha256:zz\"").is_err());
    }
}
