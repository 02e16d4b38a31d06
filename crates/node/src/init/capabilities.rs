//! File capabilities, which NFSv3 does not carry, put back on the union.

use std::fs;

use rustix::fs::{XattrFlags, lsetxattr};
use wire::node::{CAPABILITY_LIST, FileCapability};

use crate::failure::{Doing as _, Failure};

/// Sets `security.capability` on each file of the server's list. On the union: the attribute goes to
/// the upper layer, and (with `metacopy`) the file's content stays where it is.
pub(super) fn restore() -> Result<String, Failure> {
    let list = match fs::read_to_string(CAPABILITY_LIST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok("none in this image".into()),
        list => list.doing(|| format!("read {CAPABILITY_LIST}"))?,
    };
    let (mut done, mut failures) = (0, Vec::new());
    for line in list.lines().filter(|line| !line.is_empty()) {
        match restore_one(line) {
            Ok(()) => done += 1,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    if failures.is_empty() { Ok(format!("{done} files")) } else { Err(Failure::new(failures.join("; "))) }
}

fn restore_one(line: &str) -> Result<(), Failure> {
    let file = FileCapability::parse(line).doing(|| format!("read {line:?} of {CAPABILITY_LIST}"))?;
    // Not through a symlink: the list names the files themselves.
    lsetxattr(file.path.as_slice(), c"security.capability", &file.value, XattrFlags::empty())
        .doing(|| format!("set the capabilities of {}", file.path.escape_ascii()))
}
