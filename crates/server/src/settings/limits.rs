//! What images may ask of this machine's disk.

use image::store::Limits;

use super::file::Images;
use super::{SettingsError, value};

/// Largest size that can be set, in GiB: 16 TiB, the largest file of ext4.
const MAX_GIB: u64 = 16 << 10;

/// The limits of the file, and the usual ones where it says nothing.
pub(super) fn check(images: &Images) -> Result<Limits, SettingsError> {
    let usual = Limits::default();
    let max_image = size("images.max_image_gib", images.max_image_gib, usual.max_image)?;
    // A smaller image has smaller layers without a word about them.
    let max_layer = size("images.max_layer_gib", images.max_layer_gib, usual.max_layer.min(max_image))?;
    if max_layer > max_image {
        let reason =
            format!("a layer of {} GiB is more than an image may have, {} GiB", max_layer >> 30, max_image >> 30);
        return Err(value("images.max_layer_gib", reason));
    }
    let reserve = match images.keep_free_mib {
        Some(mib) if mib > MAX_GIB << 10 => {
            return Err(value("images.keep_free_mib", format!("{mib} MiB are more than {MAX_GIB} GiB")));
        }
        Some(mib) => mib << 20,
        None => usual.reserve,
    };
    Ok(Limits { max_image, max_layer, reserve, ..usual })
}

/// Bytes of a size in GiB.
fn size(key: &'static str, gib: Option<u64>, usual: u64) -> Result<u64, SettingsError> {
    match gib {
        None => Ok(usual),
        Some(gib) if (1..=MAX_GIB).contains(&gib) => Ok(gib << 30),
        Some(gib) => Err(value(key, format!("{gib} is not between 1 and {MAX_GIB} (GiB)"))),
    }
}
