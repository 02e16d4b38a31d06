//! ECDSA P-256 keys in the forms of OpenSSH and dropbear.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wire::ssh::{Fields, push_string};

const KEY_TYPE: &[u8] = b"ecdsa-sha2-nistp256";
const CURVE: &[u8] = b"nistp256";
/// OpenSSH's PROTOCOL.key, "openssh-key-v1".
const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// Cipher block size that unencrypted private parts are padded to.
const PADDING: usize = 8;

/// The text is no unencrypted ECDSA P-256 key in OpenSSH's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an unencrypted ecdsa-sha2-nistp256 key in OpenSSH's own form")]
pub struct KeyFormatError;

/// A key pair on the curve P-256.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyPair {
    /// The private scalar, big-endian.
    pub(super) secret: [u8; 32],
    /// The public point, uncompressed (SEC 1 §2.3.3).
    pub(super) public: [u8; 65],
}

impl KeyPair {
    /// `KEY_TYPE BASE64 COMMENT`, as in `authorized_keys` (RFC 4253 §6.6, RFC 5656 §3.1).
    pub(super) fn public_line(&self, comment: &str) -> String {
        format!("ecdsa-sha2-nistp256 {} {comment}", STANDARD.encode(self.public_blob()))
    }

    /// OpenSSH's private key file, without passphrase.
    pub(super) fn openssh_private(&self, comment: &str) -> String {
        // Both copies of a random number show that a passphrase was right; without one, any will
        // do, and one that follows from the key keeps the file reproducible.
        let check = [self.public[1], self.public[2], self.public[3], self.public[4]];
        let mut private = [check, check].concat();
        for part in [KEY_TYPE, CURVE, &self.public] {
            push_string(&mut private, part);
        }
        push_mpint(&mut private, &self.secret);
        push_string(&mut private, comment.as_bytes());
        let padding = private.len().next_multiple_of(PADDING) - private.len();
        private.extend((1..).take(padding));

        let mut file = MAGIC.to_vec();
        for part in [&b"none"[..], b"none", b""] {
            push_string(&mut file, part);
        }
        file.extend(1u32.to_be_bytes());
        push_string(&mut file, &self.public_blob());
        push_string(&mut file, &private);
        let mut text = format!("{BEGIN}\n");
        for line in STANDARD.encode(file).as_bytes().chunks(70) {
            text.extend(line.iter().map(|&b| char::from(b)));
            text.push('\n');
        }
        text + END + "\n"
    }

    /// Reads what [`openssh_private`](Self::openssh_private) or `ssh-keygen -t ecdsa -b 256` wrote.
    pub(super) fn parse_openssh(text: &str) -> Result<Self, KeyFormatError> {
        let body = text.trim().strip_prefix(BEGIN).and_then(|t| t.strip_suffix(END)).ok_or(KeyFormatError)?;
        let body: String = body.split_ascii_whitespace().collect();
        let file = STANDARD.decode(body).map_err(|_| KeyFormatError)?;
        parse_file(&file).ok_or(KeyFormatError)
    }

    /// Dropbear's host key file: the public part, then the scalar (`buf_put_ecdsa_priv_key`).
    pub(super) fn dropbear(&self) -> Vec<u8> {
        let mut file = self.public_blob();
        push_mpint(&mut file, &self.secret);
        file
    }

    /// The public key as it is in ssh's messages (RFC 5656 §3.1).
    pub(super) fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        for part in [KEY_TYPE, CURVE, &self.public] {
            push_string(&mut blob, part);
        }
        blob
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secret: debug output ends up in logs.
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// A signature as it is in ssh's messages (RFC 5656 §3.1.2), of its two numbers, 32 bytes each.
pub(super) fn signature(numbers: &[u8]) -> Vec<u8> {
    let (r, s) = numbers.split_at(numbers.len() / 2);
    let mut both = Vec::new();
    push_mpint(&mut both, r);
    push_mpint(&mut both, s);
    let mut signature = Vec::new();
    push_string(&mut signature, KEY_TYPE);
    push_string(&mut signature, &both);
    signature
}

fn parse_file(file: &[u8]) -> Option<KeyPair> {
    let mut file = Fields(file.strip_prefix(MAGIC)?);
    if [file.string()?, file.string()?, file.string()?] != [&b"none"[..], b"none", b""] || file.number()? != 1 {
        return None;
    }
    file.string()?;
    let mut private = Fields(file.string()?);
    if private.number()? != private.number()? || [private.string()?, private.string()?] != [KEY_TYPE, CURVE] {
        return None;
    }
    let public = private.string()?.try_into().ok()?;
    let scalar = private.string()?;
    let scalar = scalar.strip_prefix(b"\0").unwrap_or(scalar);
    let mut secret = [0; 32];
    secret.get_mut(32usize.checked_sub(scalar.len())?..)?.copy_from_slice(scalar);
    Some(KeyPair { secret, public })
}

/// RFC 4251 §5 "mpint" of a positive number: no needless zeros, but one if the first bit is set.
fn push_mpint(out: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|&b| b != 0).unwrap_or(number.len());
    let digits = &number[start..];
    match digits.first() {
        Some(0x80..) => push_string(out, &[&[0], digits].concat()),
        _ => push_string(out, digits),
    }
}
