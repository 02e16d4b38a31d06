//! Where the changes are, and what is read of them.

use super::*;

/// An extended attribute: name and value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// Longest value of an extended attribute in bytes (Linux: `XATTR_SIZE_MAX`), and of the list of names.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// Most runs of a file that is written with its holes: one with more is written whole.
const MAX_RUNS: usize = 10_000;

/// The upper layer, held open by the net service.
pub(super) fn upper_layer() -> Result<OwnedFd, Failure> {
    for entry in fs::read_dir("/proc").doing(|| "read /proc".into())?.flatten() {
        let process = entry.path();
        let Ok(command) = fs::read(process.join("cmdline")) else { continue };
        // Anybody may call a process so; root's own is the one, and nobody else has a copy of the agent at /run/walt.
        let is_it = command.split(|&b| b == 0).next() == Some(NET_SERVICE.as_bytes())
            && fs::read_link(process.join("root")).is_ok_and(|root| root.as_os_str() == "/run/walt");
        if !is_it {
            continue;
        }
        // Through the link of /proc: the mount has no other name.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(upper) = rustix::fs::open(process.join("fd/1"), flags, Mode::empty()) {
            return Ok(upper);
        }
    }
    Err(Failure::new(
        "the layer of changes is not to be found: no net service of walt-init holds it open. A node that was booted before \
         the server was updated has none: reboot it",
    ))
}

/// Names in a directory, in an order that is always the same.
pub(super) fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The directory that holds `path`, below `root`, and the last name. Neither symlinks nor mounts are passed.
pub(super) fn resolve(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<(OwnedFd, CString)> {
    let device = rustix::fs::fstat(root)?.st_dev;
    let mut parts = path.split(|&b| b == b'/').collect::<Vec<_>>();
    let last = parts.pop().unwrap_or_default();
    let mut directory = rustix::fs::openat(root, c".", DIRECTORY, Mode::empty())?;
    for part in parts {
        directory = rustix::fs::openat(&directory, part, DIRECTORY, Mode::empty())?;
        if rustix::fs::fstat(&directory)?.st_dev != device {
            return Err(rustix::io::Errno::XDEV);
        }
    }
    Ok((directory, CString::new(last).map_err(|_| rustix::io::Errno::INVAL)?))
}

/// An extended attribute; `None` if it is not there or can not be read.
pub(super) fn attribute(file: impl AsFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_ATTRIBUTE];
    let len = rustix::fs::fgetxattr(file, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// Whether the file `name` has this attribute.
pub(super) fn has_attribute_at(directory: &OwnedFd, name: &CStr, attribute: &CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty());
    file.is_ok_and(|file| self::attribute(file, attribute).is_some())
}

/// What a layer keeps of extended attributes: what users, and the kernel's security modules (capabilities), have set, and
/// not what the overlay notes for itself.
pub(super) fn attributes(file: impl AsFd) -> Vec<Attribute> {
    let mut list = vec![0; MAX_ATTRIBUTE];
    let Ok(len) = rustix::fs::flistxattr(&file, &mut list[..]) else { return Vec::new() };
    let kept = |name: &&[u8]| {
        let wanted = [&b"user."[..], b"security.", b"trusted."].iter().any(|prefix| name.starts_with(prefix));
        wanted && !name.starts_with(b"trusted.overlay.")
    };
    let names = list[..len].split(|&b| b == 0).filter(kept);
    let both = names.filter_map(|name| Some((name.to_vec(), attribute(&file, &CString::new(name).ok()?)?)));
    both.collect()
}

/// What is no hole in a file; `None` if the file system does not tell, or it is not worth it.
pub(super) fn runs(file: &File, size: u64) -> Option<Vec<(u64, u64)>> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if end <= start || runs.len() == MAX_RUNS {
            return None;
        }
        runs.push((start, end - start));
        at = end;
    }
    // GNU's format wants the end marked, be it by nothing.
    if at < size {
        runs.push((size, 0));
    }
    Some(runs)
}

/// Seconds and nanoseconds.
#[expect(clippy::unnecessary_cast, reason = "the types differ between architectures")]
pub(super) fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime as i64, stat.st_mtime_nsec as u32)
}
