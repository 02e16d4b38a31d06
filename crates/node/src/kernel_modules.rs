//! Loading kernel modules.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Doing as _, Failure};

/// Where an image may have its `modprobe`.
const MODPROBE: [&str; 4] = ["/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe"];

/// `MODULE_INIT_COMPRESSED_FILE` of finit_module(2): the kernel decompresses (since Linux 5.17).
const COMPRESSED: i32 = 4;

/// Loads the module `name` and what it needs: with the image's modprobe, or from its `modules.dep` if
/// it has none. Says how.
pub(crate) fn load(name: &str) -> Result<String, Failure> {
    load_with(name, "")
}

/// As [`load`], with parameters for the module, `name=value` with blanks between them.
pub(crate) fn load_with(name: &str, parameters: &str) -> Result<String, Failure> {
    if let Some(modprobe) = MODPROBE.into_iter().find(|path| Path::new(path).exists()) {
        let status = Command::new(modprobe)
            .arg(name)
            .args(parameters.split_whitespace())
            .status()
            .doing(|| format!("run {modprobe}"))?;
        // A modprobe that fails may be a busybox without modules support: ours comes next.
        if status.success() {
            return Ok(format!("{modprobe} {name}"));
        }
    }
    let directory = directory();
    let table = directory.join("modules.dep");
    let text = fs::read_to_string(&table).doing(|| format!("read {}", table.display()))?;
    let files = in_order(&text, name).ok_or_else(|| Failure::new(format!("{} has no {name}", table.display())))?;
    for (number, file) in files.iter().enumerate() {
        // The last one is the module itself.
        let parameters = if number + 1 == files.len() { parameters } else { "" };
        insert_with(&directory.join(file), parameters)?;
    }
    Ok(format!("loaded {name} with {} other modules", files.len() - 1))
}

/// Whether the image has the module `name` for the kernel that runs.
pub(crate) fn is_there(name: &str) -> bool {
    fs::read_to_string(directory().join("modules.dep")).is_ok_and(|table| in_order(&table, name).is_some())
}

fn directory() -> PathBuf {
    Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().into_owned())
}

/// Loads the module in `file`; one that is loaded already is no failure.
pub(crate) fn insert(file: &Path) -> Result<(), Failure> {
    insert_with(file, "")
}

fn insert_with(file: &Path, parameters: &str) -> Result<(), Failure> {
    let what = || format!("load {}", file.display());
    let flags = if file.extension().is_some_and(|extension| extension == "ko") { 0 } else { COMPRESSED };
    let parameters = CString::new(parameters).doing(what)?;
    match rustix::system::finit_module(File::open(file).doing(what)?, &parameters, flags) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => result.doing(what),
    }
}

/// The files of `name` and of all that it needs, in the order to load them, from the text of a
/// `modules.dep` (depmod(8): `file: needed needed…`, the needed of each complete).
fn in_order(table: &str, name: &str) -> Option<Vec<PathBuf>> {
    let lines: HashMap<_, _> = table.lines().filter_map(|line| line.split_once(':')).collect();
    let (file, needed) = lines.iter().find(|(file, _)| module_name(file) == name.replace('-', "_"))?;
    // depmod lists a module before what that one needs: the reverse is the order to load.
    let mut files: Vec<_> = needed.split_whitespace().rev().map(PathBuf::from).collect();
    files.push(PathBuf::from(file));
    Some(files)
}

/// `kernel/fs/overlayfs/over-lay.ko.xz` -> `over_lay`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_modules_come_first() {
        let table = "kernel/fs/nfs/nfsv3.ko: kernel/fs/nfs/nfs.ko kernel/net/sunrpc.ko.xz\nkernel/fs/overlayfs/overlay.ko:\nkernel/a-b.ko.zst: kernel/x.ko\n";
        let files = |name| in_order(table, name).map(|f| f.iter().map(|p| p.display().to_string()).collect::<Vec<_>>());
        assert_eq!(files("overlay"), Some(vec!["kernel/fs/overlayfs/overlay.ko".into()]));
        let nfsv3 = ["kernel/net/sunrpc.ko.xz", "kernel/fs/nfs/nfs.ko", "kernel/fs/nfs/nfsv3.ko"];
        assert_eq!(files("nfsv3"), Some(nfsv3.map(String::from).to_vec()));
        assert!(files("a_b").is_some() && files("a-b").is_some());
        assert_eq!(files("over"), None);
    }
}
