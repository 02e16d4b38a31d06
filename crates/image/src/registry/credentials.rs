//! Credentials as docker keeps them: `config.json`, and the helpers that it may name.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::reference::{DOCKER_HUB, Reference};
use crate::registry::RegistrySettings;

/// What opens a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User name and password (or access token).
    Basic { user: String, password: String },
    /// OAuth2 refresh token, exchanged for access tokens.
    IdentityToken(String),
}

/// Credentials cannot be read.
#[derive(Debug)]
pub(crate) struct CredentialError {
    pub(crate) path: PathBuf,
    pub(crate) cause: String,
}

/// Largest configuration file and helper's answer that is read, in bytes.
const MAX_FILE: usize = 1 << 20;
/// Longest time that a helper may take: it may have to ask somebody over the network.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);
/// Docker Hub's name in docker's configuration.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Credentials for `reference` from the first file that has some.
pub(crate) async fn find(
    settings: &RegistrySettings,
    reference: &Reference,
) -> Result<Option<Credential>, CredentialError> {
    for path in &settings.credential_files {
        let failed = |cause: String| CredentialError { path: path.clone(), cause };
        let json = match tokio::fs::read(path).await {
            Ok(json) => json,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            // The default file is in the home directory of whoever runs the server, perhaps another user by now.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(path = %path.display(), "credentials are not readable, going on without");
                continue;
            }
            Err(e) => return Err(failed(e.to_string())),
        };
        if json.len() > MAX_FILE {
            return Err(failed(format!("it is larger than {MAX_FILE} bytes")));
        }
        let config: DockerConfig = serde_json::from_slice(&json).map_err(|e| failed(e.to_string()))?;
        match config.lookup(reference).map_err(failed)? {
            Found::Nothing => {}
            Found::Credential(credential) => return Ok(Some(credential)),
            Found::Helper { program, key } => {
                if let Some(credential) =
                    ask_helper(&settings.helper_dir.as_deref().unwrap_or(Path::new("")).join(program), &key).await?
                {
                    return Ok(Some(credential));
                }
            }
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(rename = "credsStore", default)]
    store: String,
    #[serde(rename = "credHelpers", default)]
    helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(rename = "identitytoken", default)]
    identity_token: String,
}

enum Found {
    Nothing,
    Credential(Credential),
    /// A program to ask, and what to ask it for.
    Helper {
        program: String,
        key: String,
    },
}

impl DockerConfig {
    fn lookup(&self, reference: &Reference) -> Result<Found, String> {
        let registry = reference.registry();
        let helper = self.helpers.get(registry).or(Some(&self.store)).filter(|h| !h.is_empty());
        if let Some(helper) = helper {
            // The name becomes a program's: nothing that could lead elsewhere in the file system.
            if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return Err(format!("`{helper}` is no name of a credential helper"));
            }
            let key = if registry == DOCKER_HUB { HUB_KEY } else { registry };
            return Ok(Found::Helper { program: format!("docker-credential-{helper}"), key: key.to_owned() });
        }
        // containers-auth.json(5): the longest matching `registry/part/of/repository` wins.
        let name = format!("{registry}/{}", reference.repository());
        let best = self
            .auths
            .iter()
            .filter_map(|(key, auth)| {
                let key = normalise(key);
                let matches = name.strip_prefix(key).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
                matches.then_some((key.len(), auth))
            })
            .max_by_key(|(len, _)| *len);
        match best {
            Some((_, auth)) => auth.credential().map(|c| c.map_or(Found::Nothing, Found::Credential)),
            None => Ok(Found::Nothing),
        }
    }
}

/// Keys may be URLs of a registry's old API.
fn normalise(key: &str) -> &str {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

impl Auth {
    fn credential(&self) -> Result<Option<Credential>, String> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identity_token.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credential::Basic { user: self.username.clone(), password: self.password.clone() }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let bytes = STANDARD.decode(self.auth.trim()).map_err(|e| format!("`auth` is no base64: {e}"))?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is no UTF-8".to_owned())?;
        let (user, password) = text.split_once(':').ok_or("`auth` has no colon after the user name")?;
        // docker once padded passwords with NUL bytes.
        Ok(Some(Credential::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

/// docker-credential-helpers' protocol: the key on standard input, JSON on standard output.
async fn ask_helper(program: &Path, key: &str) -> Result<Option<Credential>, CredentialError> {
    let failed = |cause: String| CredentialError { path: program.to_owned(), cause };
    let ask = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(key.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(HELPER_TIMEOUT, ask).await {
        Ok(output) => output.map_err(|e| failed(e.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {} s", HELPER_TIMEOUT.as_secs()))),
    };
    let text = String::from_utf8_lossy(&output.stdout[..output.stdout.len().min(MAX_FILE)]);
    if !output.status.success() {
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(text.trim().chars().take(200).collect()));
    }
    let answer: HelperAnswer = serde_json::from_str(&text).map_err(|e| failed(e.to_string()))?;
    Ok(Some(if answer.user == "<token>" {
        Credential::IdentityToken(answer.secret)
    } else {
        Credential::Basic { user: answer.user, password: answer.secret }
    }))
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(json: &str, reference: &str) -> Result<Option<(String, String)>, String> {
        let config: DockerConfig = serde_json::from_str(json).unwrap();
        Ok(match config.lookup(&reference.parse().unwrap())? {
            Found::Nothing => None,
            Found::Credential(Credential::Basic { user, password }) => Some((user, password)),
            Found::Credential(Credential::IdentityToken(token)) => Some(("<token>".to_owned(), token)),
            Found::Helper { program, key } => Some((program, key)),
        })
    }

    #[test]
    fn finds_by_registry_and_longest_path() {
        // a:b, c:d:e, f:g
        let json = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"lab:5000":{"auth":"YzpkOmU="},
            "lab:5000/team":{"auth":"Zjpn"},"other":{"identitytoken":"t"},"plain":{"username":"u","password":"p"},"empty":{}}}"#;
        let pair = |a: &str, b: &str| Ok(Some((a.to_owned(), b.to_owned())));
        assert_eq!(lookup(json, "debian"), pair("a", "b"));
        assert_eq!(lookup(json, "lab:5000/x"), pair("c", "d:e"));
        assert_eq!(lookup(json, "lab:5000/team/x"), pair("f", "g"));
        assert_eq!(lookup(json, "lab:5000/teams/x"), pair("c", "d:e"));
        assert_eq!(lookup(&json.replace("other", "other.org"), "other.org/x"), pair("<token>", "t"));
        assert_eq!(lookup(&json.replace("plain", "plain.org"), "plain.org/x"), pair("u", "p"));
        assert_eq!(lookup(&json.replace("empty", "empty.org"), "empty.org/x"), Ok(None));
        assert_eq!(lookup(json, "ghcr.io/x/y"), Ok(None));
    }

    #[test]
    fn names_a_helper() {
        let json = r#"{"credsStore":"pass","credHelpers":{"gcr.io":"gcloud","bad.io":"../x"}}"#;
        let pair = |a: &str, b: &str| Ok(Some((a.to_owned(), b.to_owned())));
        assert_eq!(lookup(json, "debian"), pair("docker-credential-pass", HUB_KEY));
        assert_eq!(lookup(json, "gcr.io/a"), pair("docker-credential-gcloud", "gcr.io"));
        assert!(lookup(json, "bad.io/a").is_err());
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(lookup(r#"{"auths":{"docker.io":{"auth":"%"}}}"#, "a").is_err());
        assert!(lookup(r#"{"auths":{"docker.io":{"auth":"YQ=="}}}"#, "a").is_err());
    }
}
