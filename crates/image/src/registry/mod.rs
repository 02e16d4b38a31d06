//! Client of OCI distribution registries (and of Docker Hub, which is one).

pub mod manifest;
mod settings;

pub use settings::RegistrySettings;
