//! What U-Boot runs.

mod script_image;

pub use script_image::script_image;
