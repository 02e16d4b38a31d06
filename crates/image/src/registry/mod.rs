//! Client of OCI distribution registries (and of Docker Hub, which is one).

pub mod auth;
mod client;
mod credentials;
pub mod manifest;
mod retry;
mod settings;

pub(crate) use client::{Client, FetchError};
pub use settings::RegistrySettings;
