//! The ssh agent by which people log in to nodes: they use the server's key and never see it.

use image::server_layer::{HostKeys, ServerKey};
use wire::ssh_agent::{Request, UserAuth, failure, identities, signature};

/// Name of the one algorithm (RFC 5656 §3.1).
const ALGORITHM: &[u8] = b"ecdsa-sha2-nistp256";

/// The answer to a message of an ssh client. What is no login to a node is answered by "no".
pub fn answer(key: &ServerKey, hosts: &HostKeys, message: &[u8]) -> Vec<u8> {
    match Request::parse(message) {
        Ok(Request::Identities) => identities(&key.public_blob(), "walt-server"),
        Ok(Request::Sign { key: wanted, data }) => sign(key, hosts, wanted, data).unwrap_or_else(|why| {
            tracing::warn!(why, "a signature was asked for and refused");
            failure()
        }),
        // OpenSSH's client tries a request of its own first (`session-bind@openssh.com`), and does without it.
        Err(refused) => {
            tracing::debug!(%refused, "a message to the ssh agent");
            failure()
        }
    }
}

fn sign(key: &ServerKey, hosts: &HostKeys, wanted: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
    let own = key.public_blob();
    let login = UserAuth::parse(data).map_err(|refused| refused.to_string())?;
    if wanted != own || login.key != own || login.algorithm != ALGORITHM {
        return Err("it is for another key".to_owned());
    }
    if login.host_key.is_some_and(|host| host != hosts.public_blob) {
        return Err("it is for a login to a machine that is no node".to_owned());
    }
    Ok(signature(&key.sign(data).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn request(key: &[u8], data: &[u8]) -> Vec<u8> {
        [vec![13], string(key), string(data), vec![0; 4]].concat()
    }

    fn login(key: &[u8], algorithm: &[u8], host: Option<&[u8]>) -> Vec<u8> {
        let method: &[u8] = if host.is_some() { b"publickey-hostbound-v00@openssh.com" } else { b"publickey" };
        let user = [string(b"root"), string(b"ssh-connection"), string(method)].concat();
        let host = host.map(string).unwrap_or_default();
        [string(&[1; 32]), vec![50], user, vec![1], string(algorithm), string(key), host].concat()
    }

    #[test]
    fn logins_to_nodes_are_signed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let key = ServerKey::load_or_create(directory.path()).unwrap();
        let hosts = HostKeys::load_or_create(directory.path()).unwrap();
        let own = key.public_blob();
        let signs = |key_of: &[u8], data: &[u8]| {
            let answer = answer(&key, &hosts, &request(key_of, data));
            assert!(matches!(answer[0], 5 | 14));
            answer[0] == 14
        };
        assert_eq!(answer(&key, &hosts, &[11])[..9], [&[12, 0, 0, 0, 1][..], &104u32.to_be_bytes()].concat());
        assert!(signs(&own, &login(&own, ALGORITHM, None)));
        assert!(signs(&own, &login(&own, ALGORITHM, Some(&hosts.public_blob))));
        assert!(!signs(&own, &login(&own, ALGORITHM, Some(&own))), "another host");
        assert!(!signs(&hosts.public_blob, &login(&own, ALGORITHM, None)), "another key");
        assert!(!signs(&own, &login(&hosts.public_blob, ALGORITHM, None)), "another key");
        assert!(!signs(&own, &login(&own, b"ssh-rsa", None)), "another algorithm");
        assert!(!signs(&own, b"SSHSIG"), "a file");
        assert_eq!(answer(&key, &hosts, &[]), [5]);
    }
}
