//! The server's ssh keys: made once, kept in its state directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::ssh_format::{self, KeyFormatError, KeyPair};

/// One host key for all images, in every form that ssh servers of images want.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKeys {
    /// Content of `/etc/ssh/ssh_host_ecdsa_key`.
    pub openssh_private: String,
    /// Content of `/etc/ssh/ssh_host_ecdsa_key.pub`.
    pub openssh_public: String,
    /// Content of `/etc/dropbear/dropbear_ecdsa_host_key`.
    pub dropbear: Vec<u8>,
    /// The public key as it is in ssh's messages.
    pub public_blob: Vec<u8>,
}

/// The key by which the server logs in to nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// The private key's file, for `ssh -i`.
    pub path: PathBuf,
    /// The public key, one line as in `authorized_keys`, without its newline.
    pub public: String,
    pair: KeyPair,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random number generator failed.
    #[error("cannot make a key: the system gives no random numbers")]
    Generate,
    /// The key could not be read.
    #[error("cannot read the key {path}: {cause}")]
    Read {
        /// The key.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The key could not be written.
    #[error("cannot write the key {path}: {cause}")]
    Write {
        /// The key.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("cannot use the key {path}: {cause}; remove it to have a new one made")]
    Format {
        /// The key.
        path: PathBuf,
        /// What is wrong.
        cause: KeyFormatError,
    },
}

impl HostKeys {
    /// Reads `directory/ssh_host_ecdsa_key`, or makes it.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        const COMMENT: &str = "walt-node";
        let (_, pair) = load_or_create(directory, "ssh_host_ecdsa_key", COMMENT)?;
        Ok(Self {
            openssh_private: pair.openssh_private(COMMENT),
            openssh_public: pair.public_line(COMMENT) + "\n",
            dropbear: pair.dropbear(),
            public_blob: pair.public_blob(),
        })
    }
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostKeys").field("openssh_public", &self.openssh_public).finish_non_exhaustive()
    }
}

impl ServerKey {
    /// Reads `directory/id_ecdsa`, or makes it.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        const COMMENT: &str = "walt-server";
        let (path, pair) = load_or_create(directory, "id_ecdsa", COMMENT)?;
        Ok(Self { path, public: pair.public_line(COMMENT), pair })
    }

    /// The public key as it is in ssh's messages (RFC 5656 §3.1).
    pub fn public_blob(&self) -> Vec<u8> {
        self.pair.public_blob()
    }

    /// A signature of `data` as it is in ssh's messages (RFC 5656 §3.1.2).
    ///
    /// # Errors
    /// The random number generator failed.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &self.pair.secret,
            &self.pair.public,
            &random,
        );
        let signature = pair.map_err(|_| KeyError::Generate)?.sign(&random, data).map_err(|_| KeyError::Generate)?;
        Ok(ssh_format::signature(signature.as_ref()))
    }
}

fn load_or_create(directory: &Path, name: &str, comment: &str) -> Result<(PathBuf, KeyPair), KeyError> {
    let path = directory.join(name);
    let pair = match fs::read_to_string(&path) {
        Ok(text) => {
            let format = |cause| KeyError::Format { path: path.clone(), cause };
            let pair = KeyPair::parse_openssh(&text).map_err(format)?;
            // Two halves that do not belong together would show up at the first login only.
            EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &pair.secret,
                &pair.public,
                &SystemRandom::new(),
            )
            .map_err(|_| format(KeyFormatError))?;
            pair
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pair = generate()?;
            let write = |cause| KeyError::Write { path: path.clone(), cause };
            store(directory, name, &pair.openssh_private(comment), 0o600).map_err(write)?;
            store(directory, &format!("{name}.pub"), &(pair.public_line(comment) + "\n"), 0o644).map_err(write)?;
            pair
        }
        Err(cause) => return Err(KeyError::Read { path, cause }),
    };
    Ok((path, pair))
}

fn generate() -> Result<KeyPair, KeyError> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let document = document.map_err(|_| KeyError::Generate)?;
    let parsed = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
    let parsed = parsed.map_err(|_| KeyError::Generate)?;
    let public: [u8; 65] = parsed.public_key().as_ref().try_into().map_err(|_| KeyError::Generate)?;
    // RFC 5915 §3: the scalar is the OCTET STRING (04) of 32 bytes (20) behind the version (02 01 01).
    let secret = document.as_ref().windows(37).find_map(|w| w.strip_prefix(&[2, 1, 1, 4, 32])?.first_chunk::<32>());
    let pair = KeyPair { secret: *secret.ok_or(KeyError::Generate)?, public };
    EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &pair.secret,
        &pair.public,
        &random,
    )
    .map_err(|_| KeyError::Generate)?;
    Ok(pair)
}

/// Writes a file that is there as a whole or not at all, and never readable by more than `mode` says.
fn store(directory: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let partial = directory.join(format!("{name}.partial"));
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn output(program: &str, arguments: &[&str], path: &Path) -> String {
        let output = Command::new(program)
            .args(arguments)
            .arg(path)
            .output()
            .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn base64_of(line: &str) -> &str {
        line.split(' ').nth(1).unwrap()
    }

    #[test]
    fn openssh_and_dropbear_read_the_keys_that_we_make() {
        // Several, since a scalar or a check may start with any byte.
        for _ in 0..8 {
            let directory = tempfile::tempdir().unwrap();
            let keys = HostKeys::load_or_create(&directory.path().join("new")).unwrap();
            let path = directory.path().join("new/ssh_host_ecdsa_key");
            assert_eq!(fs::read_to_string(&path).unwrap(), keys.openssh_private);
            assert_eq!(base64_of(&output("ssh-keygen", &["-y", "-f"], &path)).trim(), base64_of(&keys.openssh_public));
            let dropbear = directory.path().join("dropbear");
            fs::write(&dropbear, &keys.dropbear).unwrap();
            assert!(output("dropbearkey", &["-y", "-f"], &dropbear).contains(base64_of(&keys.openssh_public)));
            // The same after a restart.
            assert_eq!(HostKeys::load_or_create(&directory.path().join("new")).unwrap(), keys);
        }
    }

    #[test]
    fn a_key_of_ssh_keygen_is_taken_and_anything_else_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("id_ecdsa");
        output("ssh-keygen", &["-q", "-t", "ecdsa", "-b", "256", "-N", "", "-C", "x", "-f"], &path);
        let key = ServerKey::load_or_create(directory.path()).unwrap();
        let public = fs::read_to_string(directory.path().join("id_ecdsa.pub")).unwrap();
        assert_eq!(base64_of(&key.public), base64_of(&public));

        fs::remove_file(&path).unwrap();
        output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f"], &path);
        assert!(matches!(ServerKey::load_or_create(directory.path()), Err(KeyError::Format { .. })));
        fs::write(&path, "").unwrap();
        assert!(matches!(ServerKey::load_or_create(directory.path()), Err(KeyError::Format { .. })));
    }
}
