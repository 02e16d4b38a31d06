//! `walt node save`, and the saved image booted and looked at.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::process::run as run_program;

use super::super::stage::{Stage, TINY_BOOT};
use super::{told, walt};

/// What is changed on the node: new, changed, removed, replaced and renamed.
const CHANGES: &str = "set -e
echo new > /root/new; ln /root/new /root/second-name; ln -s /root/new /root/link
chmod 4711 /root/new; mkdir -p /srv/deep/er; mkfifo /srv/fifo; mknod /srv/null c 1 3
dd if=/dev/zero of=/srv/holes bs=1 count=1 seek=99999999 2>/dev/null
head -c 3000000 /dev/urandom > /srv/random; md5sum /srv/random | cut -d' ' -f1 > /srv/sum
echo changed >> /etc/profile
chmod 600 /etc/shells
rm /usr/bin/yes; rm -r /mnt
rm -r /var/log; mkdir /var/log; echo fresh > /var/log/fresh
mv /etc/init.d /etc/init.new && mkdir /etc/init.d && cp /etc/init.new/rcS /etc/init.d/rcS
echo not-saved > /tmp/x; echo not-saved > /run/x; echo not-saved > /etc/hostname";

/// Whether it is so in the saved image, seen from inside.
const EXPECTED: &str = "set -e
test \"$(cat /root/new)\" = new; test \"$(stat -c '%h %a' /root/second-name)\" = '2 4711'; test -L /root/link
test -d /srv/deep/er; test -p /srv/fifo; test -c /srv/null; test \"$(stat -c %s /srv/holes)\" = 100000000
test \"$(md5sum /srv/random | cut -d' ' -f1)\" = \"$(cat /srv/sum)\"
grep -q changed /etc/profile
test \"$(stat -c %a /etc/shells)\" = 600; grep -q /bin/sh /etc/shells
test ! -e /usr/bin/yes; test ! -e /mnt
test \"$(ls /var/log)\" = fresh
test -x /etc/init.new/rcS; test -x /etc/init.d/rcS
test ! -e /tmp/x; test ! -e /etc/hostname
echo all as it was";

/// Changes the node, saves it, boots what was saved, and compares its export with what umoci unpacks.
pub(in super::super) fn saved_and_booted(stage: &mut Stage<'_>, node: &str, mac: &str) -> Result<()> {
    let changed = walt(stage, &["node", "run", node, CHANGES])?;
    stage.check("the node is changed", changed.status.success(), told(&changed))?;
    let saved = walt(stage, &["node", "save", node, "tiny-saved"])?;
    let is_so = saved.status.success() && told(&saved).contains("docker.io/root/tiny-saved:latest");
    stage.check("and saved as an image of mine", is_so, told(&saved))?;
    let again = walt(stage, &["node", "save", node, "tiny-saved"])?;
    let refused = !again.status.success() && told(&again).contains("--force");
    stage.check("a second one does not take its place unasked", refused, told(&again))?;

    exported(stage)?;
    interrupted(stage, node)?;

    let before = stage.daemon()?.walt(&["node", "run", node, "cat /proc/sys/kernel/random/boot_id"])?;
    let boot = walt(stage, &["node", "boot", node, "tiny-saved"])?;
    stage.check("the node is to boot it", boot.status.success(), told(&boot))?;
    stage.wait_until_booted_anew(mac, &before, TINY_BOOT)?;
    let seen = walt(stage, &["node", "run", node, EXPECTED])?;
    stage.check("and everything is in it as it was", seen.stdout == b"all as it was\n", told(&seen))
}

/// Whoever stops it, and whatever had come by then: nothing of it stays.
fn interrupted(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let images = stage.daemon()?.state().join("images");
    let partial = || -> Option<u64> {
        let mut found = fs::read_dir(&images).ok()?.flatten();
        let file = found.find(|entry| entry.file_name().to_string_lossy().starts_with(".partial-upload"))?;
        Some(file.metadata().ok()?.len())
    };
    let begun = Instant::now();
    // Pages of zeros that are there, and no hole: they come as fast as the network is.
    let grown = walt(stage, &["node", "run", node, "dd if=/dev/zero of=/srv/large bs=1M count=100 2>/dev/null"])?;
    let mut command = stage.daemon()?.command("walt");
    let mut child = command.args(["node", "save", node, "broken"]).stderr(Stdio::piped()).spawn()?;
    while partial().is_none_or(|bytes| bytes < 1_000_000) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let came = partial();
    run_program(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    let asked = Instant::now();
    while child.try_wait()?.is_none() && asked.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let by_itself = child.try_wait()?.is_some();
    let _ = child.kill();
    let ended = child.wait()?;
    let is_so = grown.status.success() && came.is_some() && by_itself && !ended.success();
    stage.check("a save is interrupted in the middle", is_so, format!("after {came:?} bytes, {ended}"))?;
    while partial().is_some() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = stage.daemon()?.walt(&["image", "show"])?;
    stage.check("nothing of it stays", partial().is_none() && !shown.contains("broken"), "")?;
    walt(stage, &["node", "run", node, "rm /srv/large"]).map(drop)
}

/// The image as other tools unpack it.
fn exported(stage: &mut Stage<'_>) -> Result<()> {
    let root = stage.lab.state().join("saved");
    fs::create_dir_all(&root)?;
    let archive = root.join("saved.tar");
    let output = walt(stage, &["image", "export", "tiny-saved", &archive.to_string_lossy()])?;
    stage.check("it is exported", output.status.success(), told(&output))?;
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy"]).arg(format!("oci-archive:{}", archive.display()));
    run_program(copy.arg(format!("oci:{}:image", root.join("layout").display())))?;
    let bundle = root.join("bundle");
    let mut unpack = Command::new("umoci");
    run_program(
        unpack.args(["unpack", "--image"]).arg(format!("{}:image", root.join("layout").display())).arg(&bundle),
    )?;
    let rootfs = bundle.join("rootfs");
    // The same test, in the unpacked tree, by the image's own shell; /etc/hostname is the bundle's business, as is /tmp.
    let busybox = |script: &str| {
        let mut chroot = Command::new("chroot");
        chroot.arg(&rootfs).args(["/bin/sh", "-c", script]).env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin");
        chroot.output().context("cannot run the image's shell")
    };
    let seen = busybox(EXPECTED)?;
    stage.check("umoci unpacks the same", seen.stdout == b"all as it was\n", told(&seen))?;
    let there = |path: &str| Path::new(&rootfs).join(path).symlink_metadata().is_ok();
    let servers =
        ["bin/walt-init", "bin/walt-env", "bin/_walt_internal_", "etc/dropbear/dropbear_ecdsa_host_key", "run/x"];
    let found: Vec<_> = servers.into_iter().filter(|path| there(path)).collect();
    stage.check("nothing of the server's own is in it", found.is_empty(), found.join(" "))?;
    // A hundred megabytes of holes are none on the way.
    let size = fs::metadata(&archive)?.len();
    let mut layers: Vec<_> = fs::read_dir(stage.daemon()?.state().join("layers"))?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(|metadata| metadata.len() > 3_000_000 && metadata.len() < 20_000_000)
        .collect();
    layers.sort_by_key(|metadata| metadata.modified().ok());
    let newest = layers.last().map_or(0, fs::Metadata::len);
    stage.check(
        "the layer of changes has no holes in it",
        newest < 20_000_000 && newest > 0,
        format!("{newest} of {size} bytes"),
    )
}
