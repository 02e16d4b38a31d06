//! How far registration has come, in the words of the API.

use api::{ImageState, Registration};

use super::{Device, Job, Registrar, Variant};

impl Registrar {
    /// How far the registration of this device has come.
    pub fn registration(&self, device: &Device) -> Registration {
        if device.row.model.is_none() {
            return Registration::NotANode;
        }
        if let Some((step, cause)) = &device.problem {
            return Registration::Failed { step: (*step).into(), cause: cause.clone(), retry_at: None, attempts: 1 };
        }
        let Some(variant) = device.image_key().and_then(|key| self.variant(&key)) else {
            return Registration::Preparing;
        };
        // An image that is being refreshed is still served.
        if device.row.served.is_some() && device.row.served.as_ref() == variant.ready().map(|ready| &ready.image_id) {
            return Registration::Ready;
        }
        match &variant.job {
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

impl Variant {
    /// State, in the words of the API.
    pub fn state(&self) -> ImageState {
        match (&self.job, &self.content) {
            (Job::Pulling { done, total, .. }, _) => ImageState::Pulling { done: *done, total: *total },
            (Job::Failed { failure, .. }, _) => ImageState::Failed { cause: failure.cause.clone() },
            (_, Some(_)) => ImageState::Present,
            (_, None) => ImageState::Missing,
        }
    }
}
