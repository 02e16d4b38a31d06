//! The daemon of a WalT platform, as a library: `main` calls [`run`] and nothing else.

pub mod control;
mod counters;
mod daemon;
pub mod hooks;
pub mod journal;
pub mod links;
pub mod logs;
pub mod machines;
pub mod names;
pub mod nodes;
pub mod privileges;
pub mod registration;
pub mod registry;
pub mod server_files;
mod services;
pub mod settings;
pub mod site;
pub mod supervise;
pub mod timeline;

pub use daemon::run;
