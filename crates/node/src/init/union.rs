//! The union: the image on NFS below, RAM above, and the result as `/`.

use std::ffi::CString;
use std::fs;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount};
use rustix::process::{chdir, pivot_root};

use super::layer::LAYER;
use crate::failure::{Doing as _, Failure};
use crate::mounts;
use crate::settings::Settings;

/// Where the union is mounted before it is `/`.
const NEW_ROOT: &str = "/run/walt-root";

/// Where the NFS root is for the time of the move, as the union sees it.
const OLD_ROOT: &str = "/.walt-nfs-root";

/// Most to least wanted.
///
/// * `xino=on`: inode numbers are the NFS fileids, with the layer in high bits that the server keeps
///   free; the same file has the same number before and after it is written.
/// * `metacopy=on` (which wants `redirect_dir=on`): a `chown`, or a capability put back, copies an
///   inode into RAM and not a file's content over the network.
const FEATURES: [&str; 3] = ["xino=on,redirect_dir=on,metacopy=on", "xino=auto", ""];

/// Lays the union and makes it `/`, with all that was mounted below the old root.
pub(super) fn mount_and_enter(settings: &Settings) -> Result<String, Failure> {
    // What `findmnt /` and `df` show as the source: the share below, if there is one.
    let source = match &settings.share {
        Some(share) => format!("{}:{}", share.server.unwrap_or(settings.server), share.path),
        None => "walt".into(),
    };
    // A shared mount can't be moved (mount(2), EINVAL), and an initramfs may have left some.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .doing(|| "make the mounts private".into())?;
    let features = lay(&source)?;
    enter()?;
    for directory in [LAYER, NEW_ROOT] {
        fs::remove_dir(directory).doing(|| format!("remove {directory}"))?;
    }
    Ok(format!("overlay of RAM over {source}{}{features}", if features.is_empty() { "" } else { ", " }))
}

/// Mounts the overlay; says with which features.
fn lay(source: &str) -> Result<&'static str, Failure> {
    fs::create_dir(NEW_ROOT).doing(|| format!("make directory {NEW_ROOT}"))?;
    let mut failure = Failure::new("no overlay");
    for features in FEATURES {
        let comma = if features.is_empty() { "" } else { "," };
        let options = format!("lowerdir=/,upperdir={LAYER}/upper,workdir={LAYER}/work{comma}{features}");
        let data = CString::new(options).doing(|| "write the mount options".into())?;
        let mounted = mount(source, NEW_ROOT, "overlay", MountFlags::empty(), data.as_c_str());
        match mounted.doing(|| format!("mount overlay on {NEW_ROOT} with {data:?}")) {
            Ok(()) => return Ok(features),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Makes the union `/`. pivot_root(2), and not a mount moved over `/` plus chroot: the union is then
/// the root mount of the namespace, so `findmnt /` shows it and nothing is hidden below it.
fn enter() -> Result<(), Failure> {
    let old_root = format!("{NEW_ROOT}{OLD_ROOT}");
    fs::create_dir(&old_root).doing(|| format!("make directory {old_root}"))?;
    pivot_root(NEW_ROOT, old_root.as_str()).doing(|| format!("pivot to {NEW_ROOT}"))?;
    chdir("/").doing(|| "change to /".into())?;
    move_mounts()?;
    // The layer's tmpfs came along with /run. The overlay holds it by itself.
    unmount(LAYER, UnmountFlags::empty()).doing(|| format!("unmount {LAYER}"))?;
    // Lazily, as this very program is being run from there. The overlay has its own hold on it.
    unmount(OLD_ROOT, UnmountFlags::DETACH).doing(|| format!("unmount {OLD_ROOT}"))?;
    fs::remove_dir(OLD_ROOT).doing(|| format!("remove {OLD_ROOT}"))
}

/// Moves each mount on the old root to the same place of the union; what is mounted on those comes
/// with them.
fn move_mounts() -> Result<(), Failure> {
    let table = format!("{OLD_ROOT}/proc/self/mountinfo");
    let table = fs::read_to_string(&table).doing(|| format!("read {table}"))?;
    for (from, to) in moves(&mounts::parse(&table)) {
        mount_move(from.as_str(), to.as_str()).doing(|| format!("move {from} to {to}"))?;
    }
    Ok(())
}

fn moves(mounts: &[mounts::Mount]) -> Vec<(String, String)> {
    let Some(old) = mounts.iter().find(|mount| mount.point == OLD_ROOT) else { return Vec::new() };
    let on_old = mounts.iter().filter(|mount| mount.parent == old.id && mount.id != old.id);
    on_old.filter_map(|mount| Some((mount.point.clone(), mount.point.strip_prefix(OLD_ROOT)?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_on_the_old_root_moves_with_its_own_submounts() {
        let table = "\
40 1 0:40 / / rw - overlay walt rw
25 40 0:22 / /.walt-nfs-root ro - nfs 10.0.0.1:/x ro
26 25 0:5 / /.walt-nfs-root/dev rw - devtmpfs devtmpfs rw
27 26 0:6 / /.walt-nfs-root/dev/pts rw - devpts devpts rw
28 25 0:7 / /.walt-nfs-root/run rw - tmpfs tmpfs rw
29 28 0:8 / /.walt-nfs-root/run/walt rw - tmpfs walt rw";
        let expected = ["/dev", "/run"].map(|p| (format!("/.walt-nfs-root{p}"), p.to_owned()));
        assert_eq!(moves(&mounts::parse(table)), expected);
        assert_eq!(moves(&[]), []);
    }
}
