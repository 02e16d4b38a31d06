//! The NFS root, and the way into it.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount_move};
use rustix::process::{chdir, chroot};

use crate::console::{Level, say};
use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::{IpArgument, KernelArguments, NfsShare};

/// Where the root is mounted before it is `/`.
const NEW_ROOT: &str = "/root";

/// How long the server may take to answer before the machine had better boot again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options for what `nfsroot=` leaves open. The image never changes under a mount, so attributes may
/// be kept for ever and nothing is checked on open.
const DEFAULTS: [(&str, &str); 6] = [
    ("vers", "vers=3"),
    ("proto", "proto=tcp"),
    ("mountproto", "mountproto=tcp"),
    ("rsize", "rsize=1048576"),
    ("actimeo", "actimeo=86400"),
    ("timeo", "timeo=50"),
];

/// Mounts the share that `nfsroot=` names.
pub(super) fn mount(kernel: &KernelArguments) -> Result<(), Failure> {
    let argument = kernel.get("nfsroot").ok_or_else(|| Failure::new("no nfsroot= among the kernel's arguments"))?;
    let share = NfsShare::parse(argument).ok_or_else(|| Failure::new(format!("nfsroot={argument} is no share")))?;
    let server = share
        .server
        .or_else(|| IpArgument::parse(kernel.get("ip")?).server)
        .ok_or_else(|| Failure::new("no server's address in nfsroot= or ip="))?;
    let (source, options) = (format!("{server}:{}", share.path), mount_options(server, &share.options));
    let what = || format!("mount {source} ({options})");
    let data = CString::new(options.as_str()).doing(what)?;
    fs::create_dir_all(NEW_ROOT).doing(|| format!("make directory {NEW_ROOT}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::mount::mount(source.as_str(), NEW_ROOT, "nfs", MountFlags::RDONLY, data.as_c_str()) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error).doing(what),
            // Refused or not there: a server that is just starting is there in a moment.
            Err(error) => say(Level::Error, super::NAME, &format!("{}: {error}; trying again", what())),
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// What `nfsroot=` says, and defaults for the rest.
fn mount_options(server: Ipv4Addr, given: &str) -> String {
    // `nfsvers=` and the words `v3`, `tcp`, `udp` are other ways to say `vers=` and `proto=`.
    let names: Vec<&str> = given.split(',').map(|option| option.split('=').next().unwrap_or(option)).collect();
    let said = |name: &str| match name {
        "vers" => names.iter().any(|n| ["vers", "nfsvers", "v3", "v4"].contains(n)),
        "proto" => names.iter().any(|n| ["proto", "tcp", "udp"].contains(n)),
        "actimeo" => names.iter().any(|n| n.starts_with("ac") || *n == "noac"),
        name => names.contains(&name),
    };
    let mut options: Vec<&str> = given.split(',').filter(|option| !option.is_empty()).collect();
    options.extend(DEFAULTS.iter().filter(|(name, _)| !said(name)).map(|(_, option)| option));
    options.extend(["nolock", "nocto"].iter().filter(|name| !said(name)));
    format!("{},addr={server}", options.join(","))
}

/// Makes the new root `/` and runs its init, as switch_root(8) does.
pub(super) fn switch(kernel: &KernelArguments, arguments: &[OsString]) -> Result<Infallible, Failure> {
    let init = kernel.get("init").unwrap_or("/sbin/init");
    for point in ["/proc", "/sys", "/dev"] {
        let target = format!("{NEW_ROOT}{point}");
        mount_move(point, target.as_str()).doing(|| format!("move {point} to {target}"))?;
    }
    // The RAM that the initramfs takes would not come back otherwise.
    empty_initramfs();
    chdir(NEW_ROOT).doing(|| format!("change to {NEW_ROOT}"))?;
    // The initial root can neither be unmounted nor pivoted away (ramfs-rootfs-initramfs.rst).
    mount_move(".", "/").doing(|| "move the root to /".into())?;
    chroot(".").doing(|| "change the root".into())?;
    chdir("/").doing(|| "change to /".into())?;
    Err(Command::new(init).args(arguments).exec()).doing(|| format!("execute {init}"))
}

/// Removes all files of the initial root's own file system, if it really is one.
fn empty_initramfs() {
    let Ok(root) = fs::metadata("/") else { return };
    let device = root.dev();
    if !Path::new("/init").exists() {
        return;
    }
    remove_below(Path::new("/"), device);
}

fn remove_below(directory: &Path, device: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        // Never into what is mounted there: that is the image.
        if metadata.dev() != device {
            continue;
        }
        // What can't be removed costs a little RAM and nothing else.
        let _ = if metadata.is_dir() {
            remove_below(&path, device);
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nfsroot_says_is_kept_and_the_rest_filled_in() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let options = mount_options(server, "");
        assert_eq!(
            options,
            "vers=3,proto=tcp,mountproto=tcp,rsize=1048576,actimeo=86400,timeo=50,nolock,nocto,addr=10.0.0.1"
        );
        let options = mount_options(server, "nfsvers=3,tcp,rsize=4096,nolock,acregmin=3,port=2050");
        assert_eq!(
            options,
            "nfsvers=3,tcp,rsize=4096,nolock,acregmin=3,port=2050,mountproto=tcp,timeo=50,nocto,addr=10.0.0.1"
        );
    }
}
