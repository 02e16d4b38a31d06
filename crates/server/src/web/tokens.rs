//! Tokens by which users may command the platform over the network (RFC 6750).

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// Largest file, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Shortest token: 128 bits, if it is made of hex digits.
const MIN_TOKEN: usize = 32;

/// The tokens of all users.
pub struct Tokens {
    of: Vec<(String, Arc<str>)>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can not be read.
    #[error("can not read the tokens in {path} (web.token_file): {cause}")]
    Read {
        /// File.
        path: PathBuf,
        /// Reason.
        cause: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("the tokens in {path} are no secret, its mode is {mode:o}: `chmod 600 {path}`, and give users new tokens")]
    Open {
        /// File.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{path} (web.token_file) belongs to user {owner}, who could give away any token: `chown root {path}`")]
    Owner {
        /// File.
        path: PathBuf,
        /// Whom it belongs to.
        owner: u32,
    },
    /// A line makes no sense.
    #[error("{path} (web.token_file), line {line}: {reason}")]
    Line {
        /// File.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong; no part of a token.
        reason: &'static str,
    },
    /// There is no token in it.
    #[error("{path} (web.token_file) has no token: write lines of `USER TOKEN`, a token by `openssl rand -hex 32`")]
    Empty {
        /// File.
        path: PathBuf,
    },
}

/// Tokens are no text for logs.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.of.len())
    }
}

impl Tokens {
    /// Reads the file, which must belong to root or to whom the daemon runs as, and be closed to others.
    ///
    /// # Errors
    /// It can not be used; see [`TokenError`].
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let read = |cause| TokenError::Read { path: path.to_owned(), cause };
        // A FIFO must not stop the daemon.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(read)?;
        // Of the file that is open, whatever the name leads to meanwhile.
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(read(io::Error::other("it is not a file of at most 64 KiB")));
        }
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(TokenError::Owner { path: path.to_owned(), owner });
        }
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).map_err(read)?;
        Self::parse(&text, path)
    }

    /// Lines of `USER TOKEN`; empty ones and those that begin with `#` say nothing.
    fn parse(text: &str, path: &Path) -> Result<Self, TokenError> {
        let mut of: Vec<(String, Arc<str>)> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |reason| TokenError::Line { path: path.to_owned(), line, reason };
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let mut words = text.split_ascii_whitespace();
            let (Some(user), Some(token), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("it is not USER TOKEN"));
            };
            if !is_user(user) {
                return Err(wrong("the first word can not be the name of a user"));
            }
            if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)) {
                return Err(wrong("a token has letters, digits and -._~+/= alone"));
            }
            if token.len() < MIN_TOKEN {
                return Err(wrong("a token has at least 32 characters: `openssl rand -hex 32` makes one"));
            }
            if of.iter().any(|(other, _)| other == token) {
                return Err(wrong("another line has the same token"));
            }
            of.push((token.to_owned(), user.into()));
        }
        if of.is_empty() {
            return Err(TokenError::Empty { path: path.to_owned() });
        }
        Ok(Self { of })
    }

    /// Whose token this is. How long it takes tells nothing about what is right in a wrong one.
    pub fn user_of(&self, token: &str) -> Option<Arc<str>> {
        let mut found = None;
        for (known, user) in &self.of {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(user.clone());
            }
        }
        found
    }
}

/// Names of Linux users (useradd(8)), and nothing that could mean something else in the name of an image.
fn is_user(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ADA: &str = "0123456789abcdef0123456789abcdef";
    const BOB: &str = "fedcba9876543210fedcba9876543210";

    fn parse(text: &str) -> Result<Tokens, String> {
        Tokens::parse(text, Path::new("t")).map_err(|error| error.to_string())
    }

    #[test]
    fn each_token_is_somebodys() {
        let tokens = parse(&format!("# ours\n\nada {ADA}\n  bob\t{BOB} \r\n")).unwrap();
        assert_eq!(tokens.user_of(ADA).as_deref(), Some("ada"));
        assert_eq!(tokens.user_of(BOB).as_deref(), Some("bob"));
        for wrong in ["", &ADA[1..], &format!("{ADA}0"), &ADA.to_uppercase(), "ada"] {
            assert_eq!(tokens.user_of(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (text, why) in [
            (ADA.to_owned(), "line 1: it is not USER TOKEN"),
            (format!("ada {ADA} x"), "not USER TOKEN"),
            (format!("# x\nAda {ADA}"), "line 2: the first word"),
            (format!("a/b {ADA}"), "the first word"),
            (format!("ada {ADA}é"), "alone"),
            (format!("ada {}", &ADA[1..]), "at least 32"),
            (format!("ada {ADA}\nbob {ADA}"), "line 2: another line"),
            ("# nothing\n".to_owned(), "has no token"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(why) && !error.contains(&ADA[1..]), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let load = || Tokens::load(&path).map_err(|error| error.to_string());
        assert!(load().unwrap_err().contains("can not read"));
        std::fs::write(&path, format!("ada {ADA}\n")).unwrap();
        for mode in [0o644, 0o640, 0o620, 0o604] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load().unwrap_err();
            assert!(error.contains("are no secret") && error.contains(&format!("{mode:o}")), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(load().is_ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
            assert!(load().unwrap_err().contains("belongs to user 1234"));
        }
        assert!(Tokens::load(dir.path()).unwrap_err().to_string().contains("is not a file"));
    }
}
