//! Which of a multi-architecture image's variants a machine runs.

use std::fmt;
use std::str::FromStr;

/// What an image is built for, in the words of the OCI image index (GOOS, GOARCH and variant).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Operating system: `linux` for every node.
    pub os: String,
    /// Processor architecture: `amd64`, `386`, `arm`, `arm64`, ...
    pub architecture: String,
    /// Variant of it: `v6`, `v7`, `v8`; `None` where there are none, or where any will do.
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on `architecture`, with its variant if that matters.
    pub fn linux(architecture: &str, variant: Option<&str>) -> Platform {
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// 64-bit PC.
    pub fn amd64() -> Platform {
        Platform::linux("amd64", None)
    }

    /// How well an image for `offered` runs on this platform: `None` if it does not, else the
    /// higher the better.
    ///
    /// An ARM machine runs what was built for an earlier variant (a v7 machine runs v6 and v5, not
    /// the other way round); `arm64` without a variant is v8, `arm` without one is v7
    /// (the defaults of the container tools that write such indexes).
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let Some(own) = variant_number(&self.architecture, self.variant.as_deref()) else {
            // An architecture without numbered variants: the very same one, or none said.
            return match (&self.variant, &offered.variant) {
                (a, b) if a == b => Some(2),
                (None, Some(_)) | (Some(_), None) => Some(1),
                _ => None,
            };
        };
        variant_number(&offered.architecture, offered.variant.as_deref()).filter(|n| *n <= own)
    }
}

fn variant_number(architecture: &str, variant: Option<&str>) -> Option<u32> {
    let default = match architecture {
        "arm" => "v7",
        "arm64" => "v8",
        // amd64: `v2`, `v3` are micro-architecture levels; what says none runs everywhere.
        "amd64" => "v1",
        _ => return None,
    };
    variant.unwrap_or(default).strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Text that is no `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform such as linux/arm/v7")]
pub struct ParsePlatformError(String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Platform, ParsePlatformError> {
        let bad = || ParsePlatformError(text.chars().take(100).collect());
        let mut parts = text.split('/');
        let mut part = || parts.next().filter(|part| !part.is_empty() && !part.contains(char::is_whitespace));
        let (os, architecture) = part().zip(part()).ok_or_else(bad)?;
        let platform =
            Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: part().map(str::to_owned) };
        // Whatever was not taken makes the difference.
        if platform.to_string() == text { Ok(platform) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_variants() {
        let v6 = Platform::linux("arm", Some("v6"));
        let v7 = Platform::linux("arm", Some("v7"));
        let arm = Platform::linux("arm", None);
        let arm64 = Platform::linux("arm64", None);
        let cases = [
            (&v6, &v7, false),
            (&v7, &v6, true),
            (&v7, &arm, true),
            (&v6, &arm, false),
            (&v7, &arm64, false),
            (&arm64, &Platform::linux("arm64", Some("v8")), true),
            (&Platform::amd64(), &Platform::linux("amd64", None), true),
            (&Platform::amd64(), &Platform::linux("amd64", Some("v3")), false),
            (&Platform::linux("386", None), &Platform::amd64(), false),
            (&Platform::linux("riscv64", None), &Platform::linux("riscv64", None), true),
        ];
        for (machine, image, runs) in cases {
            assert_eq!(machine.rank(image).is_some(), runs, "{image} on {machine}");
        }
        assert!(v7.rank(&v7) > v7.rank(&v6));
    }

    #[test]
    fn is_read_as_it_is_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x", "linux/a b", "linux/arm/v7 "] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn another_operating_system_never_runs() {
        let windows = Platform { os: "windows".to_owned(), ..Platform::amd64() };
        assert_eq!(Platform::amd64().rank(&windows), None);
    }
}
