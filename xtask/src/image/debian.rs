//! Debian trees by mmdebstrap, from the package sources that this machine itself uses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::oci::{EPOCH, Layer};
use super::{Key, lines_of};

/// The release in the images, whatever the release of the machine that builds them.
const SUITE: &str = "bookworm";

/// Not for a node: documentation and translations are a quarter of a small Debian's files.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

/// The packages of the recipe at `source`, as a layer.
pub(super) fn base_layer(source: &Path, cache: &Path) -> Result<Layer> {
    let packages = fs::read_to_string(source.join("packages")).context("cannot read the recipe's list of packages")?;
    let mut key = Key::new("debian base");
    let (prepare, customize) = (source.join("prepare"), source.join("customize"));
    let scripts = [&prepare, &customize].map(fs::read_to_string).into_iter().collect::<Result<Vec<_>, _>>();
    let scripts = scripts.context("cannot read the recipe's scripts")?.concat();
    for part in [SUITE, &scripts, &LEFT_OUT.join(" "), &packages] {
        key.add(part.as_bytes());
    }
    key.add_tree(&source.join("initramfs"))?;
    let stem = key.stem(cache, "debian");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }

    eprintln!("building the Debian base from packages (two minutes)");
    let tar = stem.with_extension("tar");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--mode=root", "--format=tar", "--quiet"])
        .arg(format!("--include={}", lines_of(&packages).collect::<Vec<_>>().join(",")))
        // The tree is thrown away if the machine stops: no need to wait for the disk after each file.
        .arg("--dpkgopt=force-unsafe-io")
        .args(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")))
        .arg(format!("--essential-hook={}", prepare.display()))
        .arg(format!("--customize-hook={}", customize.display()))
        .arg(SUITE)
        .arg(&tar)
        .arg("-")
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .stdin(Stdio::piped());
    let mut child = command.spawn().context("cannot start mmdebstrap")?;
    child.stdin.take().context("mmdebstrap has no input")?.write_all(package_sources()?.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("mmdebstrap failed ({status})");
    }
    Layer::from_tar(&tar, &stem)
}

/// This machine's own package sources, as it has them, with its release replaced by the images'.
fn package_sources() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let own = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or(SUITE);
    let directory = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = directory.chain([PathBuf::from("/etc/apt/sources.list")]).collect();
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let Ok(text) = fs::read_to_string(&file) else { continue };
        // Third parties' packages have no place in an image that is said to be Debian's.
        if matches!(extension, "list" | "sources") && text.contains(own) && text.contains("debian") {
            sources.push(text.replace(own, SUITE));
        }
    }
    if sources.is_empty() {
        bail!("no Debian package source in /etc/apt names the release {own}");
    }
    // Stanzas of the two formats cannot be mixed in one file; this machine uses one of them.
    Ok(sources.join("\n\n"))
}
