//! Rust's standard library for other architectures from Debian, for a toolchain that is Debian's own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use boot::Architecture;
use testbed::process::run_words;

use crate::debian::{Packages, name_of};
use crate::image::cache_directory;

/// Packages of the library, as Debian calls them: beside the release's own compiler there is a newer one for browsers.
const PACKAGES: [&str; 2] = ["libstd-rust-web-dev", "libstd-rust-dev"];

/// A directory for `rustc --sysroot` with the library for `architecture`, of exactly the version of Debian's compiler.
pub(super) fn sysroot(architecture: Architecture) -> Result<PathBuf> {
    for package in PACKAGES {
        let Ok(version) = run_words(&format!("dpkg-query -W -f ${{Version}} {package}")) else { continue };
        let version = version.trim();
        let name = format!("{package}-{version}-{}", name_of(architecture)).replace([':', '~', '+'], "-");
        let tree = cache_directory()?.join(name);
        let done = tree.join("complete");
        if !done.exists() {
            let wanted = format!("{package}={version}");
            Packages::of(architecture)?.unpack(&[&wanted], &tree).with_context(|| {
                format!("Debian has no {wanted} for {}: the compiler here is of another day", name_of(architecture))
            })?;
            fs::write(&done, "")?;
        }
        return Ok(tree.join("usr"));
    }
    anyhow::bail!("neither rustup nor Debian's {} is installed", PACKAGES.join(" or "))
}
