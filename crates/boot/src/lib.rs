//! What a machine needs to boot before its OS image runs: the table of node models, the bootloader
//! scripts, the cards and sticks that hold them, and the initramfs.

pub mod initramfs;
mod ipxe;
pub mod media;
mod model;
pub mod uboot;

pub use ipxe::FIRST_STAGE;
pub use model::{Architecture, Bootloader, Generation, MODELS, Model, Netboot, Recognition, model_of_class};
