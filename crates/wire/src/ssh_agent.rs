//! The two requests of the ssh agent protocol (draft-ietf-sshm-ssh-agent) that an agent with one key must know, and
//! what such an agent may be asked to sign.
//!
//! A signature by the server's key opens every node, so it is made for logins and for nothing else: [`UserAuth`] is the
//! one form of data that is signed (RFC 4252 §7). The same key could otherwise be made to sign a file, or a challenge of
//! another protocol.

use std::fmt;

use crate::ssh::{Fields, push_string};

/// Longest message without its length, in bytes: OpenSSH's own limit.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Length prefix of a message, in bytes.
pub const LENGTH: usize = 4;

// draft-ietf-sshm-ssh-agent §6.1 (message numbers).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// RFC 4252 §6.
const USERAUTH_REQUEST: u8 = 50;
/// RFC 4253 §12: the service that a user logs in to.
const CONNECTION: &[u8] = b"ssh-connection";
/// OpenSSH's PROTOCOL, "publickey-hostbound-v00@openssh.com".
const HOST_BOUND: &[u8] = b"publickey-hostbound-v00@openssh.com";
/// Hashes from 160 to 512 bits (RFC 4253 §7.2).
const SESSION_ID: std::ops::RangeInclusive<usize> = 20..=64;

/// A message that an agent gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which keys are there?
    Identities,
    /// Sign this.
    Sign {
        /// Public key, as ssh writes it.
        key: &'a [u8],
        /// What to sign.
        data: &'a [u8],
    },
}

/// A message makes no sense, or is none that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

impl<'a> Request<'a> {
    /// Reads a message, without its length.
    ///
    /// # Errors
    /// It is another request, or malformed: the answer is [`failure`].
    pub fn parse(message: &'a [u8]) -> Result<Self, Refused> {
        let mut fields = Fields(message);
        match fields.byte() {
            Some(REQUEST_IDENTITIES) if fields.0.is_empty() => Ok(Self::Identities),
            Some(SIGN_REQUEST) => {
                // The flags ask for other hashes of RSA alone.
                let parts = (|| Some((fields.string()?, fields.string()?, fields.number()?)))();
                match parts {
                    Some((key, data, _)) if fields.0.is_empty() => Ok(Self::Sign { key, data }),
                    _ => Err(Refused("a malformed request to sign")),
                }
            }
            _ => Err(Refused("a request that is not answered")),
        }
    }
}

/// What a client signs to log in with a key (RFC 4252 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserAuth<'a> {
    /// Who logs in.
    pub user: &'a str,
    /// Name of the signature's algorithm.
    pub algorithm: &'a [u8],
    /// Public key.
    pub key: &'a [u8],
    /// Key of the host that is logged in to, where client and host both know how to tell.
    pub host_key: Option<&'a [u8]>,
}

impl<'a> UserAuth<'a> {
    /// Reads the data of a signature.
    ///
    /// # Errors
    /// They are anything else than a login with a public key.
    pub fn parse(data: &'a [u8]) -> Result<Self, Refused> {
        let mut fields = Fields(data);
        Self::read(&mut fields).filter(|_| fields.0.is_empty()).ok_or(Refused("it is no login to an ssh server"))
    }

    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        let session = fields.string()?;
        let is_request = fields.byte()? == USERAUTH_REQUEST;
        let user = std::str::from_utf8(fields.string()?).ok()?;
        let is_login = fields.string()? == CONNECTION;
        let method = fields.string()?;
        let has_signature = fields.byte()? == 1;
        let (algorithm, key) = (fields.string()?, fields.string()?);
        let host_key = match method {
            b"publickey" => None,
            method if method == HOST_BOUND => Some(fields.string()?),
            _ => return None,
        };
        let sound = SESSION_ID.contains(&session.len()) && is_request && is_login && has_signature;
        sound.then_some(Self { user, algorithm, key, host_key })
    }
}

/// "No", whatever was asked for.
pub fn failure() -> Vec<u8> {
    vec![FAILURE]
}

/// The one key, and what it is called.
pub fn identities(key: &[u8], comment: &str) -> Vec<u8> {
    let mut message = vec![IDENTITIES_ANSWER];
    message.extend(1u32.to_be_bytes());
    push_string(&mut message, key);
    push_string(&mut message, comment.as_bytes());
    message
}

/// A signature, in the form of its algorithm.
pub fn signature(signature: &[u8]) -> Vec<u8> {
    let mut message = vec![SIGN_RESPONSE];
    push_string(&mut message, signature);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(session: usize, service: &[u8], method: &[u8], more: &[&[u8]]) -> Vec<u8> {
        let mut data = Vec::new();
        push_string(&mut data, &vec![7; session]);
        data.push(USERAUTH_REQUEST);
        for part in [b"root", service, method] {
            push_string(&mut data, part);
        }
        data.push(1);
        for part in more {
            push_string(&mut data, part);
        }
        data
    }

    #[test]
    fn requests_are_read_whole_or_not_at_all() {
        assert_eq!(Request::parse(&[REQUEST_IDENTITIES]), Ok(Request::Identities));
        let mut sign = vec![SIGN_REQUEST];
        push_string(&mut sign, b"key");
        push_string(&mut sign, b"data");
        sign.extend([0; 4]);
        assert_eq!(Request::parse(&sign), Ok(Request::Sign { key: b"key", data: b"data" }));
        for cut in 0..sign.len() {
            assert!(Request::parse(&sign[..cut]).is_err(), "{cut}");
        }
        sign.push(0);
        assert!(Request::parse(&sign).is_err());
        // ADD_IDENTITY (17), REMOVE_ALL_IDENTITIES (19), LOCK (22), EXTENSION (27); lengths beyond the message.
        for message in [&[17][..], &[19], &[22], &[27, 0, 0, 0, 0], &[11, 0], &[13, 255, 255, 255, 255], &[]] {
            assert!(Request::parse(message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn logins_are_signed_and_nothing_else() {
        let good = login(32, CONNECTION, b"publickey", &[b"ecdsa", b"key"]);
        let expected = UserAuth { user: "root", algorithm: b"ecdsa", key: b"key", host_key: None };
        assert_eq!(UserAuth::parse(&good), Ok(expected));
        let bound = login(32, CONNECTION, HOST_BOUND, &[b"ecdsa", b"key", b"host"]);
        assert_eq!(UserAuth::parse(&bound), Ok(UserAuth { host_key: Some(b"host"), ..expected }));
        for cut in 0..good.len() {
            assert!(UserAuth::parse(&good[..cut]).is_err(), "{cut}");
        }
        for wrong in [
            login(8, CONNECTION, b"publickey", &[b"ecdsa", b"key"]),
            login(65, CONNECTION, b"publickey", &[b"ecdsa", b"key"]),
            login(32, b"ssh-userauth", b"publickey", &[b"ecdsa", b"key"]),
            login(32, CONNECTION, b"hostbased", &[b"ecdsa", b"key"]),
            login(32, CONNECTION, b"publickey", &[b"ecdsa", b"key", b"more"]),
            login(32, CONNECTION, HOST_BOUND, &[b"ecdsa", b"key"]),
            // OpenSSH's PROTOCOL.sshsig: signatures of files.
            b"SSHSIG\0\0\0\x04file\0\0\0\0\0\0\0\x06sha512".to_vec(),
            Vec::new(),
        ] {
            assert!(UserAuth::parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
