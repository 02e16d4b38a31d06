//! What an image is built for, told by the programs in it.

use std::cell::Cell;
use std::io;

use crate::platform::Platform;
use crate::{FileKind, View, elf};

/// Programs that every image has one of, the most telling first: the first that is an ELF file says what the image is
/// built for. `/sbin/init` is what the agent starts; it may be a script. The dynamic loaders come last: an image of one
/// architecture may hold that of another one for a few of its programs, and those of glibc and musl are named by the
/// ABI of each architecture.
const PROGRAMS: [&str; 17] = [
    "/sbin/init",
    "/bin/sh",
    "/bin/busybox",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-armhf.so.3",
    "/lib/ld-linux.so.3",
    "/lib/ld-linux.so.2",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
    "/lib/ld-musl-armv7.so.1",
    "/lib/ld-musl-armhf.so.1",
    "/lib/ld-musl-arm.so.1",
    "/lib/ld-musl-i386.so.1",
    "/lib/ld-linux-riscv64-lp64d.so.1",
    "/lib64/ld64.so.2",
    "/lib/ld64.so.1",
];

/// What the programs of an image are built for; `None` if it has none that tells. Blocks on the disk.
///
/// # Errors
/// A program can not be read: it might have told something else than the next one.
pub(crate) fn platform(view: &View) -> io::Result<Option<Platform>> {
    for path in PROGRAMS {
        let Ok(ino) = view.resolve(path.as_bytes()) else { continue };
        if view.attr(ino).is_none_or(|attr| attr.kind != FileKind::Regular) {
            continue;
        }
        let failed = Cell::new(None);
        let read = |offset, buf: &mut [u8]| {
            view.read_at(ino, offset, buf).unwrap_or_else(|error| {
                failed.set(Some(error));
                0
            })
        };
        let platform = elf::platform(&read);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if platform.is_some() {
            return Ok(platform);
        }
    }
    Ok(None)
}
