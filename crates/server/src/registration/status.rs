//! How far registration has come, in the words of the API.

use api::{ImageState, Registration};

use super::{Device, ImageEntry, Job, Registrar};

impl Registrar {
    /// How far the registration of this device has come.
    pub fn registration(&self, device: &Device) -> Registration {
        if device.row.model.is_none() {
            return Registration::NotANode;
        }
        if let Some((step, cause)) = &device.problem {
            return Registration::Failed { step: (*step).into(), cause: cause.clone(), retry_at: None, attempts: 1 };
        }
        let Some(entry) = device.row.image.as_ref().and_then(|name| self.images.get(name)) else {
            return Registration::Preparing;
        };
        // An image that is being refreshed is still served.
        if device.row.served.is_some() && device.row.served == entry.image_id {
            return Registration::Ready;
        }
        match &entry.job {
            Job::Pulling { done, total, trouble, .. } => {
                Registration::Pulling { done: *done, total: *total, trouble: trouble.clone() }
            }
            Job::Idle | Job::Preparing { .. } => Registration::Preparing,
            Job::Failed { failure, attempts, retry_at_ms, .. } => Registration::Failed {
                step: failure.step.into(),
                cause: failure.cause.clone(),
                retry_at: retry_at_ms.map(|at| at / 1000),
                attempts: *attempts,
            },
        }
    }
}

impl ImageEntry {
    /// State, in the words of the API.
    pub fn state(&self) -> ImageState {
        match (&self.job, &self.digest) {
            (Job::Pulling { done, total, .. }, _) => ImageState::Pulling { done: *done, total: *total },
            (Job::Failed { failure, .. }, _) => ImageState::Failed { cause: failure.cause.clone() },
            (_, Some(_)) => ImageState::Present,
            (_, None) => ImageState::Missing,
        }
    }
}
