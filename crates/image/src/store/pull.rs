//! From a registry into the store.

use crate::digest::ImageDigest;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::RegistrySettings;
use crate::store::{PullError, PullProgress, Store};

#[expect(clippy::unimplemented, unused_variables, reason = "the signature comes first")]
impl Store {
    /// Makes the image that `reference` names for `platform` complete in the store: fetches, verifies and stores
    /// its configuration and those of its layers that are not there yet.
    ///
    /// Two pulls that share a layer fetch it once. Dropping the future ends the pull; layers that are complete by
    /// then stay until the next garbage collection.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        settings: &RegistrySettings,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<ImageDigest, PullError> {
        unimplemented!()
    }
}
