//! What architectures an image is wanted for.

use std::fmt;
use std::str::FromStr;

use boot::{Architecture, Model};
use image::Platform;

/// Architectures that an image is wanted for, the best first: what a model runs.
///
/// Two models that differ here may need different images of one index, even where their best architecture is the
/// same: a Raspberry Pi 2 and a Raspberry Pi B both run ARMv6, but of ARMv7 and ARMv6 the first takes ARMv7.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted(Vec<Architecture>);

impl Wanted {
    /// What this model runs. Of one that we do not know, images tell nothing but its name: anything may do.
    pub fn by_model(model: &str) -> Self {
        Model::by_name(model).map_or_else(Self::anything, |model| Self(model.architectures.to_vec()))
    }

    /// Whatever there is, images for PCs first.
    pub fn anything() -> Self {
        Self(Architecture::ALL.to_vec())
    }

    /// This one alone.
    pub fn exactly(architecture: Architecture) -> Self {
        Self(vec![architecture])
    }

    /// Whatever there is, but first of all what one of these models runs.
    pub fn preferably<'a>(models: impl Iterator<Item = &'a str>) -> Self {
        let run: Vec<_> = models.filter_map(Model::by_name).flat_map(|model| model.architectures).collect();
        let (first, rest): (Vec<_>, Vec<_>) = Architecture::ALL.into_iter().partition(|one| run.contains(&one));
        Self([first, rest].concat())
    }

    /// The same, as registries and archives have it.
    pub fn platforms(&self) -> Vec<Platform> {
        self.0.iter().map(|architecture| architecture.oci_platform()).map(|(a, v)| Platform::linux(a, v)).collect()
    }

    /// The one of `offered` that is to be taken, if any is.
    pub fn best_of<'a>(&self, offered: &'a [Platform]) -> Option<&'a Platform> {
        self.0.iter().find_map(|wanted| offered.iter().find(|platform| architecture_of(platform) == Some(*wanted)))
    }
}

/// The architecture of a platform, if it is one that nodes have.
pub fn architecture_of(platform: &Platform) -> Option<Architecture> {
    if platform.os != "linux" {
        return None;
    }
    Architecture::of_oci_platform(&platform.architecture, platform.variant.as_deref())
}

/// `aarch64,armv7l,armv6l`.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, architecture) in self.0.iter().enumerate() {
            write!(f, "{}{architecture}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Text that is no list of architectures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of architectures")]
pub struct ParseWantedError(String);

impl FromStr for Wanted {
    type Err = ParseWantedError;

    fn from_str(text: &str) -> Result<Self, ParseWantedError> {
        let listed: Option<Vec<_>> = text.split(',').map(Architecture::by_name).collect();
        listed.map(Self).ok_or_else(|| ParseWantedError(text.to_owned()))
    }
}

/// What is wanted under a name: the images of all machines that take the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageKey {
    /// Full name.
    pub name: String,
    /// What for.
    pub wanted: Wanted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platforms(texts: &[&str]) -> Vec<Platform> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_best_that_is_offered() {
        let best = |model: &str, offered: &[&str]| {
            Wanted::by_model(model).best_of(&platforms(offered)).map(ToString::to_string)
        };
        let all = ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"];
        for (model, offered, expected) in [
            ("pc-x86-64", &all[..], Some("linux/amd64")),
            ("rpi-3-b", &all, Some("linux/arm64")),
            ("rpi-3-b", &all[..3], Some("linux/arm/v7")),
            ("rpi-3-b", &all[..2], Some("linux/arm/v6")),
            ("rpi-3-b", &all[..1], None),
            ("rpi-b", &all, Some("linux/arm/v6")),
            ("rpi-b", &["linux/arm", "linux/riscv64"], None),
            ("rpi-b", &["linux/amd64", "linux/arm/v5"], Some("linux/arm/v5")),
            ("qemu-arm-64", &all[..3], Some("linux/arm/v7")),
            ("pc-x86-64", &["windows/amd64"], None),
            ("a-board-that-we-do-not-know", &all, Some("linux/amd64")),
            ("a-board-that-we-do-not-know", &all[1..3], Some("linux/arm/v7")),
        ] {
            assert_eq!(best(model, offered).as_deref(), expected, "{model} of {offered:?}");
        }
    }

    #[test]
    fn is_read_as_it_is_written() {
        for wanted in [Wanted::by_model("rpi-3-b"), Wanted::anything(), Wanted::exactly(Architecture::Armv6)] {
            assert_eq!(wanted.to_string().parse(), Ok(wanted));
        }
        assert!("".parse::<Wanted>().is_err() && "aarch64,vax".parse::<Wanted>().is_err());
    }

    #[test]
    fn what_the_nodes_run_comes_first() {
        let text = |models: &[&str]| Wanted::preferably(models.iter().copied()).to_string();
        assert_eq!(text(&[]), Wanted::anything().to_string());
        assert_eq!(text(&["rpi-3-b"]), "aarch64,armv7l,armv6l,x86_64,i686");
        assert_eq!(text(&["rpi-b", "pc-x86-32"]), "i686,armv6l,x86_64,aarch64,armv7l");
    }
}
