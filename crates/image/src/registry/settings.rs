//! How registries are spoken to.

use std::path::PathBuf;
use std::time::Duration;

/// How registries are spoken to; the defaults suit a machine on the Internet.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Registries (`host` or `host:port`) that may be spoken to in plain http if they have no https.
    /// Those on a loopback address always may.
    pub insecure: Vec<String>,
    /// Files in docker's `config.json` format that may hold credentials; the first that has some for
    /// a registry is used. One that does not exist is passed over.
    pub credential_files: Vec<PathBuf>,
    /// Directory of the programs `docker-credential-*` that such a file may name; `None`: as `PATH` says.
    pub helper_dir: Option<PathBuf>,
    /// Layers of one image that are fetched at once, 1 or more.
    pub parallel_layers: usize,
    /// Attempts without any progress before a request is given up, 1 or more.
    pub attempts: u32,
    /// Pause after the first failed attempt; it doubles with each one, up to 30 s, give or take half of it.
    pub first_pause: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a connected registry.
    pub idle_timeout: Duration,
}

impl Default for RegistrySettings {
    fn default() -> RegistrySettings {
        let docker = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        RegistrySettings {
            insecure: Vec::new(),
            credential_files: [Some(PathBuf::from("/etc/walt/auth.json")), docker.map(|d| d.join("config.json"))]
                .into_iter()
                .flatten()
                .collect(),
            helper_dir: None,
            parallel_layers: 3,
            attempts: 6,
            first_pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

impl RegistrySettings {
    /// May `registry` be spoken to in plain http?
    pub(crate) fn may_be_plain(&self, registry: &str) -> bool {
        let host = host_of(registry);
        RegistrySettings::is_loopback(registry) || self.insecure.iter().any(|entry| entry == registry || entry == host)
    }

    /// Is `registry` on this machine?
    pub(crate) fn is_loopback(registry: &str) -> bool {
        let bare = host_of(registry).trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    }
}

/// A registry without its port.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_only_where_configured_or_local() {
        let settings = RegistrySettings {
            insecure: vec!["lab".to_owned(), "other:5000".to_owned()],
            ..RegistrySettings::default()
        };
        let cases = [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("lab", true),
            ("lab:5000", true),
            ("other:5000", true),
            ("other", false),
            ("other:5001", false),
            ("registry-1.docker.io", false),
            ("192.0.2.1:5000", false),
            ("localhost.example.org", false),
        ];
        for (registry, plain) in cases {
            assert_eq!(settings.may_be_plain(registry), plain, "{registry}");
        }
    }
}
