//! The Debian that the package is installed into: as small as one with systemd can be, and with apt able to install what
//! the package depends on without a network.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::debian;
use crate::image::{Key, cache_directory};

/// Beside what is essential: systemd, a DHCP server that is in the way, and what adds users.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,adduser,dnsmasq,iproute2";

/// Units that have no business in a container whose kernel is the machine's.
const MASKED: &[&str] = &[
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "getty.target",
];

/// The archive, built if it is not in the cache.
pub(super) fn archive() -> Result<PathBuf> {
    let control = fs::read_to_string(crate::repository().join("packaging/debian/control"))?;
    let depends = control.lines().find_map(|line| line.strip_prefix("Depends: ")).context("control has no Depends")?;
    // What dpkg-shlibdeps fills in is there in any Debian.
    let depends: Vec<&str> = depends.split(", ").filter(|name| !name.contains('@')).collect();
    // And another manager of networks, to be set up with.
    let depends = depends.join(" ") + " ifupdown";
    // The package is built for the release of the machine that builds it.
    let suite = debian::own_release()?;
    let mut key = Key::new("installation root");
    [&suite, PACKAGES, &depends, &MASKED.join(" ")].iter().for_each(|part| key.add(part.as_bytes()));
    let path = key.stem(&cache_directory()?, "install-root").with_extension("tar");
    if path.exists() || testbed::lab::inside() {
        return Ok(path);
    }
    let lock = File::create(path.with_extension("lock"))?;
    lock.lock().context("cannot lock the image cache")?;
    if path.exists() {
        return Ok(path);
    }
    eprintln!("building a Debian to install into (two minutes)");
    let partial = path.with_extension("partial.tar");
    let masks: Vec<String> = MASKED.iter().map(|unit| format!("$1/etc/systemd/system/{unit}")).collect();
    let masks = format!("for unit in {}; do ln -sf /dev/null \"$unit\"; done", masks.join(" "));
    let enable = "chroot \"$1\" systemctl enable systemd-networkd && chroot \"$1\" systemctl disable dnsmasq";
    let download = format!("chroot \"$1\" apt-get install -y -q --no-install-recommends --download-only {depends}");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--mode=root", "--format=tar", "--quiet", "--skip=cleanup/apt"])
        .arg(format!("--include={PACKAGES}"))
        .args(["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/locale/*"])
        // Lists are read once; compressed they are a quarter of the archive.
        .arg("--aptopt=Acquire::GzipIndexes \"true\"")
        .args([format!("--customize-hook={download}"), format!("--customize-hook={masks}")])
        .arg(format!("--customize-hook={enable}"))
        .arg(&suite)
        .arg(&partial)
        .arg("-")
        .stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot start mmdebstrap")?;
    child.stdin.take().context("mmdebstrap has no input")?.write_all(debian::sources_of(&suite)?.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "mmdebstrap failed ({status})");
    fs::rename(&partial, &path)?;
    Ok(path)
}
