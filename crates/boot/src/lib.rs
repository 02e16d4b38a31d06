//! What a machine needs to boot before its OS image runs: the table of node models and the
//! bootloader scripts.

pub mod initramfs;
mod ipxe;
mod model;
pub mod uboot;

pub use ipxe::FIRST_STAGE;
pub use model::{Architecture, Bootloader, MODELS, Model, Netboot, Recognition, model_of_class};
