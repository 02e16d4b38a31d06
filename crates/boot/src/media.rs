//! Boot media: SD cards for boards, USB sticks for PCs that cannot boot over the network.
//!
//! Three steps, so that nothing is written before all is known to be there: what belongs on the medium
//! ([`raspberry_pi::card`], [`uboot_card`],
//! [`pc::Stick::find`]), the disk's bytes ([`disk::image`]), the file or
//! directory that gets them ([`output`]). Nothing is mounted, and nobody needs to be root.

pub mod disk;
mod fat;
pub mod output;
pub mod pc;

pub mod raspberry_pi;

pub use fat::FatError;

use crate::uboot;

/// One file of a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it stands, with `/` between directories and none in front.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl File {
    fn new(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), content: content.into() }
    }
}

/// The card of a board that has its U-Boot already, such as QEMU's: the first stage alone.
pub fn uboot_card() -> Vec<File> {
    first_stage_files()
}

/// The first stage, by the name that U-Boot looks for on a card and by the one that it asks a server for: a card's
/// content can be served to boards that boot over the network by themselves.
fn first_stage_files() -> Vec<File> {
    let script = uboot::script_image(&uboot::first_stage());
    vec![File::new(uboot::SCRIPT_NAME, script.clone()), File::new(uboot::SCRIPT_NAME_BY_DHCP, script)]
}
