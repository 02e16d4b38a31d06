//! Image names, read the way docker reads them.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// Where an image is found: `[registry/]repository[:tag][@digest]`, with docker's defaults filled in.
///
/// A value is always well-formed: what goes into a URL path is checked when it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image name: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: String,
}

/// Registry meant by a name that has none, as it is written.
pub const DOCKER_HUB: &str = "docker.io";

/// Longest name accepted (distribution/reference: 255 for registry and repository together).
const MAX_NAME: usize = 255;

impl Reference {
    /// Registry as written or implied: `docker.io`, `localhost:5000`, `ghcr.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Repository: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag; `latest` if the name has neither a tag nor a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest of the manifest or index, which wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest, or else the tag.
    pub(crate) fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Host (and port) that serves the registry's API: Docker Hub's is not the name it goes by.
    pub fn api_host(&self) -> &str {
        match self.registry.as_str() {
            DOCKER_HUB => "registry-1.docker.io",
            other => other,
        }
    }

    /// Shortest form that means the same, as people write it: `debian:12`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        // `docker.io/a.b/c` must keep its registry: `a.b/c` is another one's.
        let short = ["docker.io/library/", "docker.io/"]
            .iter()
            .filter_map(|prefix| full.strip_prefix(prefix))
            .find(|short| short.parse().is_ok_and(|parsed: Reference| parsed == *self));
        short.map_or(full.clone(), str::to_owned)
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Reference, ParseReferenceError> {
        parse(text).map_err(|reason| ParseReferenceError { text: text.chars().take(300).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    // Tools that speak of transports write `docker://debian`; people paste it.
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    // A colon after the last slash starts the tag; one before it belongs to a port.
    let tag_at = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    let (name, tag) = match tag_at {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    let (registry, repository) = match name.split_once('/') {
        // docker: the part before the first slash is a registry if it looks like a host.
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" || has_upper_case(host) => (host, rest),
        _ => (DOCKER_HUB, name),
    };
    check_registry(registry)?;
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    };
    let repository = if registry == DOCKER_HUB && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    check_repository(&repository)?;
    // Of the whole name, so that what was accepted short is accepted when it is written out.
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("it has more than {MAX_NAME} characters"));
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
}

fn has_upper_case(text: &str) -> bool {
    text.chars().any(char::is_uppercase)
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = || Err(format!("`{registry}` is no registry host"));
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return bad() };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return bad();
        }
        (None, (!port.is_empty()).then(|| port.strip_prefix(':').unwrap_or("")))
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let port_ok = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if host.is_some_and(|h| !h.split('.').all(label_ok)) || port.is_some_and(|p| !port_ok(p)) {
        return bad();
    }
    Ok(())
}

/// OCI distribution spec, "Pulling manifests":
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`.
fn check_repository(repository: &str) -> Result<(), String> {
    for part in repository.split('/') {
        if !part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)) {
            return Err(format!("`{repository}` may have lower-case letters, digits and . _ - only"));
        }
        let alphanumeric = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let ends_ok = alphanumeric(part.bytes().next()) && alphanumeric(part.bytes().last());
        let separators_ok = part
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if !ends_ok || !separators_ok {
            return Err(format!("`{part}` is no part of a repository name"));
        }
    }
    Ok(())
}

/// OCI distribution spec, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn check_tag(tag: &str) -> Result<(), String> {
    let starts_ok = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let rest_ok = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if starts_ok && rest_ok && tag.len() <= 128 { Ok(()) } else { Err(format!("`{tag}` is no tag")) }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn fills_in_as_docker_does() {
        let digest = format!("@sha256:{HEX}");
        let cases = [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("waltplatform/pc-x86-64-default", "docker.io/waltplatform/pc-x86-64-default:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest"),
            ("localhost/debian", "localhost/debian:latest"),
            ("localhost:5000/debian:a.B_c-1", "localhost:5000/debian:a.B_c-1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("ghcr.io/o/r__x--y.z", "ghcr.io/o/r__x--y.z:latest"),
            ("docker.io/library/a.b/c", "docker.io/library/a.b/c:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest"),
            ("docker://debian", "docker.io/library/debian:latest"),
            (&format!("debian{digest}"), &format!("docker.io/library/debian{digest}")),
            (&format!("debian:12{digest}"), &format!("docker.io/library/debian:12{digest}")),
        ];
        for (text, full) in cases {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(reference.to_string(), *full);
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "the full form means the same");
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference, "so does the familiar one");
        }
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long = format!("{}/a", "a".repeat(300));
        for text in [
            "",
            "Debian",
            "debian:",
            "debian:-x",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a b",
            "a/../b",
            "localhost:99999/a",
            "localhost:x/a",
            "x_.-/a",
            "h.-x/a",
            "[::1/a",
            "[zz]/a",
            "a@sha256:12",
            "a@",
            "a\n",
            "a:b\r\nHost: x",
            "é",
            "a?b",
            "a#b",
            "a%2fb",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn the_length_that_counts_is_that_of_the_full_name() {
        let longest = "a".repeat(MAX_NAME - "docker.io/library/".len());
        let reference: Reference = longest.parse().unwrap();
        assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        assert!(format!("{longest}a").parse::<Reference>().is_err());
    }

    #[test]
    fn a_digest_wins_over_the_tag() {
        let reference: Reference = format!("debian:12@sha256:{HEX}").parse().unwrap();
        assert_eq!(reference.manifest_key(), format!("sha256:{HEX}"));
    }

    #[test]
    fn docker_hub_is_served_elsewhere() {
        assert_eq!("debian".parse::<Reference>().unwrap().api_host(), "registry-1.docker.io");
        assert_eq!("localhost:5000/a".parse::<Reference>().unwrap().api_host(), "localhost:5000");
    }
}
