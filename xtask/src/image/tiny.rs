//! The tiny image: single files out of Debian packages, without running any of their scripts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use boot::Architecture;
use boot::initramfs::{self, Modules};
use testbed::process::run;

use super::oci::Layer;
use super::{Key, Recipe, Scratch, lines_of};
use crate::debian::{self, Packages};

/// Raise it when this file changes what it makes.
const VERSION: &str = "3";

/// The packages of the recipe as a layer: those of every tiny image, at `common`, and its own, at `source`.
pub(super) fn base_layer(recipe: Recipe, common: &Path, source: &Path, cache: &Path) -> Result<Layer> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"));
    let packages = read(common.join("packages"))? + &read(source.join("packages"))?;
    let architecture = recipe.architecture();
    let modules: Vec<&str> = initramfs::modules_of(architecture).to_vec();
    let device_trees: Vec<&str> = recipe.models().filter_map(|model| model.dtb).collect();
    let mut key = Key::new("tiny base");
    for part in [
        VERSION,
        debian::name_of(architecture),
        &packages,
        &modules.join(" "),
        &device_trees.join(" "),
        recipe.directory(),
    ] {
        key.add(part.as_bytes());
    }
    let stem = key.stem(cache, recipe.directory());
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }

    eprintln!("building the tiny base for {architecture} from packages");
    let work = Scratch::new(&stem)?;
    let tree = work.path().join("root");
    Packages::of(architecture)?.unpack(&lines_of(&packages).collect::<Vec<_>>(), &tree)?;
    for junk in ["usr/share", "usr/lib/systemd", "lib/systemd", "etc/init.d", "etc/default"] {
        let _ = fs::remove_dir_all(tree.join(junk));
    }
    run(Command::new("find").arg(&tree).args(["-type", "d", "-name", "gconv", "-exec", "rm", "-r", "{}", "+"]))?;
    let release = keep_modules(&tree, &modules)?;
    busybox_names(&tree, architecture)?;
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

    let boot = tree.join("boot");
    fs::rename(boot.join(format!("vmlinuz-{release}")), boot.join("kernel"))?;
    for left in [format!("System.map-{release}"), format!("config-{release}")] {
        let _ = fs::remove_file(boot.join(left));
    }
    keep_device_trees(&tree, &release, &device_trees)?;
    Layer::from_tree(&tree, &stem)
}

/// Moves the device trees of the kernel package to `/boot/dtbs`, and removes all others.
fn keep_device_trees(tree: &Path, release: &str, wanted: &[&str]) -> Result<()> {
    let package = tree.join("usr/lib").join(format!("linux-image-{release}"));
    if !wanted.is_empty() {
        let directory = tree.join("boot/dtbs");
        fs::create_dir_all(&directory)?;
        for name in wanted {
            // Those for 64 bits are in directories by maker.
            let places = [package.join(name), package.join("broadcom").join(name)];
            let found = places.iter().find(|place| place.exists());
            let found = found.with_context(|| format!("the kernel {release} has no device tree {name}"))?;
            fs::rename(found, directory.join(name))?;
        }
    }
    let _ = fs::remove_dir_all(package);
    Ok(())
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
            // Not every kernel has every driver.
            None => {}
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
fn busybox_names(tree: &Path, architecture: Architecture) -> Result<()> {
    debian::let_run(architecture)?;
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
pub(super) fn initramfs_layer(recipe: Recipe, base: &Layer, agents: &Path, cache: &Path) -> Result<Layer> {
    let agent = agents.join(recipe.architecture().to_string()).join("walt-node");
    let agent = fs::read(&agent).with_context(|| format!("cannot read the agent {agent:?}; ./x agents builds it"))?;
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
    let names = initramfs::modules_of(recipe.architecture());
    let archive = initramfs::for_node(&agent, &Modules::open(&release)?, names)?;
    let tree = work.path().join("tree");
    let directory = tree.join("boot");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("initrd.cpio"), archive)?;
    run(Command::new("zstd")
        .args(["--quiet", "-19", "--rm", "-o"])
        .arg(directory.join("initrd"))
        .arg(directory.join("initrd.cpio")))?;
    Layer::from_tree(&tree, &stem)
}
