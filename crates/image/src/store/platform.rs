//! What an image is really built for.

use std::fs;

use crate::digest::ImageDigest;
use crate::platform::Platform;
use crate::programs;
use crate::server_layer::{Base, PrepareError};
use crate::store::{Partial, Store};

/// Counts the ways in which programs were looked at: what an older one has found is looked at again.
const LOOK: &str = "2";

/// Why it can not be said what an image is built for.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The image is not there, or its configuration makes no sense.
    #[error(transparent)]
    Info(#[from] super::InfoError),
    /// Its layers can not be merged.
    #[error(transparent)]
    Base(#[from] PrepareError),
    /// Its programs can not be read.
    #[error("can not read the programs of the image: {0}")]
    Programs(#[from] std::io::Error),
}

impl Store {
    /// What `image`, whose layers are `base`, is built for: what its programs say, or else its configuration.
    ///
    /// It is found out once for each image, and kept beside its configuration. Blocks on the disk.
    pub fn platform(&self, image: &ImageDigest, base: &Base<'_>) -> Result<Platform, PlatformError> {
        let path = self.config_path(image).with_extension("platform");
        let kept = fs::read_to_string(&path).ok();
        let kept = kept.as_deref().and_then(|text| text.strip_prefix(LOOK)?.trim().parse().ok());
        if let Some(platform) = kept {
            return Ok(platform);
        }
        let said = self.config(image)?.platform;
        let platform = match programs::platform(base.view()?)? {
            // A 32-bit ARM program that does not tell its variant: the configuration may. Of others the variant is a matter
            // of how fast they run.
            Some(found) if found.architecture == "arm" && found.variant.is_none() && said.architecture == "arm" => {
                Platform { variant: said.variant, ..found }
            }
            Some(found) => found,
            None => said,
        };
        if let Err(error) = Partial::write(&path, format!("{LOOK} {platform}\n").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "what an image is built for is found out again next time");
        }
        Ok(platform)
    }
}
