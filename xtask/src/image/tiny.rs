//! The tiny image: single files out of Debian packages, without running any of their scripts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use boot::initramfs::{self, Modules};
use testbed::process::{run, run_words};

use super::oci::Layer;
use super::{Key, Scratch, lines_of};

/// Raise it when this file changes what it makes.
const VERSION: &str = "2";

/// The packages of the recipe at `source` as a layer.
pub(super) fn base_layer(source: &Path, cache: &Path) -> Result<Layer> {
    let read = |name: &str| fs::read_to_string(source.join(name)).with_context(|| format!("cannot read {name}"));
    let (packages, modules) = (read("packages")?, read("modules")?);
    let mut key = Key::new("tiny base");
    for part in [VERSION, &packages, &modules] {
        key.add(part.as_bytes());
    }
    let stem = key.stem(cache, "tiny");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }

    eprintln!("building the tiny base from packages");
    let work = Scratch::new(&stem)?;
    let tree = work.path().join("root");
    unpack_packages(&lines_of(&packages).collect::<Vec<_>>(), work.path(), &tree)?;
    for junk in
        ["usr/share", "usr/lib/systemd", "lib/systemd", "usr/lib/x86_64-linux-gnu/gconv", "etc/init.d", "etc/default"]
    {
        let _ = fs::remove_dir_all(tree.join(junk));
    }
    let wanted: Vec<&str> = lines_of(&modules).chain(initramfs::PC_MODULES).collect();
    let release = keep_modules(&tree, &wanted)?;
    busybox_names(&tree)?;
    for (directory, mode) in [
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("var/log", 0o755),
        ("mnt", 0o755),
    ] {
        let path = tree.join(directory);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }

    let boot = tree.join("boot/pc-x86-64");
    fs::create_dir_all(&boot)?;
    fs::rename(tree.join(format!("boot/vmlinuz-{release}")), boot.join("kernel"))?;
    for left in [format!("boot/System.map-{release}"), format!("boot/config-{release}")] {
        let _ = fs::remove_file(tree.join(left));
    }
    Layer::from_tree(&tree, &stem)
}

/// Downloads `packages` by apt, which verifies them, and takes their files.
pub(crate) fn unpack_packages(packages: &[&str], work: &Path, tree: &Path) -> Result<()> {
    let names: Vec<String> = packages.iter().map(|package| real_package(package)).collect::<Result<_>>()?;
    run(Command::new("apt-get")
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .args(names)
        .current_dir(work))?;
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(tree))?;
        }
    }
    Ok(())
}

/// `linux-image-amd64` only names the kernel of the day; the kernel itself is in the package it depends on.
fn real_package(package: &str) -> Result<String> {
    if package != "linux-image-amd64" {
        return Ok(package.to_owned());
    }
    let about = run_words("apt-cache show --no-all-versions linux-image-amd64")?;
    let depends = about
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .context("linux-image-amd64 depends on nothing")?;
    Ok(depends.split([' ', ',']).next().unwrap_or_default().to_owned())
}

/// Removes all kernel modules but `wanted` and what these depend on; gives back the kernel's release.
fn keep_modules(tree: &Path, wanted: &[&str]) -> Result<String> {
    let modules = tree.join("lib/modules");
    let release = fs::read_dir(&modules)?.next().context("the kernel package has no modules")??.file_name();
    let release = release.into_string().ok().context("the kernel's release is no text")?;
    let depmod = || run(Command::new("depmod").arg("-b").arg(tree).arg(&release));
    depmod()?;

    let dependencies = fs::read_to_string(modules.join(&release).join("modules.dep"))?;
    let builtin = fs::read_to_string(modules.join(&release).join("modules.builtin"))?;
    let mut kept: Vec<&str> = Vec::new();
    for name in wanted {
        let file = |path: &str| {
            path.rsplit('/').next().is_some_and(|f| f.replace('-', "_") == format!("{}.ko", name.replace('-', "_")))
        };
        match dependencies.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| file(path)) {
            Some((path, needs)) => kept.extend([path].into_iter().chain(needs.split_whitespace())),
            None if builtin.lines().any(file) => {}
            None => bail!("the kernel {release} has no module {name}"),
        }
    }
    let all = dependencies.lines().filter_map(|line| line.split_once(':')).map(|(path, _)| path);
    for path in all.filter(|path| !kept.contains(path)) {
        fs::remove_file(modules.join(&release).join(path))?;
    }
    run(Command::new("find").arg(&modules).args(["-type", "d", "-empty", "-delete"]))?;
    depmod()?;
    Ok(release)
}

/// A link for each name that busybox goes by, where no other program has the name.
fn busybox_names(tree: &Path) -> Result<()> {
    for name in run(Command::new(tree.join("bin/busybox")).arg("--list-full"))?.lines() {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap_or(tree))?;
        if !path.exists() {
            symlink("/bin/busybox", &path).with_context(|| format!("cannot link {path:?}"))?;
        }
    }
    Ok(())
}

/// Our own initramfs, made of the agent and the modules in the layer `base`, as a layer.
pub(super) fn initramfs_layer(base: &Layer, agent: &Path, cache: &Path) -> Result<Layer> {
    let agent = fs::read(agent).with_context(|| format!("cannot read the agent {agent:?}"))?;
    let mut key = Key::new("tiny initramfs");
    key.add(VERSION.as_bytes());
    key.add(base.digest.as_bytes());
    key.add(&agent);
    let stem = key.stem(cache, "initramfs");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }
    let work = Scratch::new(&stem)?;
    run(Command::new("tar").arg("-xzf").arg(&base.blob).arg("-C").arg(work.path()).arg("./lib/modules"))?;
    let modules = work.path().join("lib/modules");
    let release = fs::read_dir(&modules)?.next().context("the base layer has no modules")??.path();
    let archive = initramfs::for_node(&agent, &Modules::open(&release)?, &initramfs::PC_MODULES)?;
    let tree = work.path().join("tree");
    let directory = tree.join("boot/pc-x86-64");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("initrd.cpio"), archive)?;
    run(Command::new("zstd")
        .args(["--quiet", "-19", "--rm", "-o"])
        .arg(directory.join("initrd"))
        .arg(directory.join("initrd.cpio")))?;
    Layer::from_tree(&tree, &stem)
}
