//! Debian trees by mmdebstrap, from the package sources that this machine itself uses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use boot::Architecture;

use super::oci::{EPOCH, Layer};
use super::{Key, lines_of};
use crate::debian::{self, SUITE};

/// Not for a node: documentation and translations are a quarter of a small Debian's files.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];

/// The packages of the recipe, as a layer: those of every recipe of Debian, at `common`, and its own, at `source`.
pub(super) fn base_layer(architecture: Architecture, common: &Path, source: &Path, cache: &Path) -> Result<Layer> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"));
    let packages = read(common.join("packages"))? + &read(source.join("packages"))?;
    let (prepare, customize) = (common.join("prepare"), common.join("customize"));
    let mut key = Key::new("debian base");
    for part in [
        SUITE,
        debian::name_of(architecture),
        &read(prepare.clone())?,
        &read(customize.clone())?,
        &read(source.join("modules"))?,
        &LEFT_OUT.join(" "),
        &packages,
    ] {
        key.add(part.as_bytes());
    }
    key.add_tree(&common.join("initramfs"))?;
    let stem = key.stem(cache, &format!("debian-{}", debian::name_of(architecture)));
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }

    let emulated = architecture != Architecture::X86_64;
    let time = if emulated { "some minutes: its programs are emulated" } else { "two minutes" };
    eprintln!("building the Debian base for {architecture} from packages ({time})");
    debian::let_run(architecture)?;
    let tar = stem.with_extension("tar");
    let bootstrap = |sources: &str| -> Result<()> {
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--variant=minbase", "--mode=root", "--format=tar", "--quiet"])
            .arg(format!("--architectures={}", debian::name_of(architecture)))
            // Whether they can run was seen to above.
            .args(if emulated { &["--skip=check/qemu"][..] } else { &[] })
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
            .env("WALT_RECIPE", source)
            .stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot start mmdebstrap")?;
        child.stdin.take().context("mmdebstrap has no input")?.write_all(sources.as_bytes())?;
        let status = child.wait()?;
        if !status.success() {
            bail!("mmdebstrap failed ({status})");
        }
        Ok(())
    };
    let sources = debian::package_sources()?;
    bootstrap(&sources).or_else(|error| {
        // Updates are on mirrors of their own, and now and then between two states.
        let release_alone = debian::without_updates(&sources);
        eprintln!("{error:#}; trying once more without updates of the release");
        bootstrap(&release_alone)
    })?;
    Layer::from_tar(&tar, &stem)
}
