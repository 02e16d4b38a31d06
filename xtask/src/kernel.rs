//! `x kernel`: a small Linux that mounts its root over NFS by itself, for an image without an initrd.
//!
//! Built from Debian's source package with the options of `xtask/kernel/`, and kept in the cache of the images.

mod options;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use boot::Architecture;
use testbed::process::{run, run_words};

use crate::debian::Packages;
use crate::image::{Key, Scratch, cache_directory};
use options::Options;

/// Raise it when this file changes what it makes.
const VERSION: &str = "1";

/// Debian's package with the source, and the name of the directory in its archive.
const PACKAGE: &str = "linux-source-6.1";

/// What `make` calls the architecture, what it builds, and where it puts it.
const ARCHITECTURE: &str = "x86_64";
const TARGET: &str = "bzImage";
const PRODUCT: &str = "arch/x86/boot/bzImage";

/// Most of the source, and nothing that this kernel is made of: not unpacked. Their directories are, for the questions
/// in them (Kconfig) are part of one tree.
const LEFT_OUT: [&str; 7] = [
    "Documentation/*/*",
    "drivers/gpu/*.[ch]",
    "drivers/media/*.[ch]",
    "drivers/net/ethernet/*.[ch]",
    "drivers/net/wireless/*.[ch]",
    "sound/*.[ch]",
    "tools/testing/*",
];

/// Builds the kernel, or finds it in the cache; gives back the file that a bootloader loads.
pub(crate) fn build() -> Result<PathBuf> {
    let cache = cache_directory()?;
    let list = crate::repository().join("xtask/kernel").join(format!("{ARCHITECTURE}.config"));
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read the kernel's options {list:?}"))?;
    let options = Options::parse(&text).with_context(|| format!("{list:?}"))?;
    let packages = Packages::of(Architecture::X86_64)?;
    let mut key = Key::new("kernel");
    for part in [VERSION, &text, &packages.version(PACKAGE)?, &run_words("gcc --version")?, &run_words("ld --version")?]
    {
        key.add(part.as_bytes());
    }
    let stem = key.stem(&cache, "kernel");
    let kernel = stem.with_extension(TARGET);
    // Two runs that need it build it once.
    let lock = File::create(cache.join("kernel.lock")).with_context(|| format!("cannot lock the cache {cache:?}"))?;
    lock.lock().context("cannot lock the kernel's build")?;
    if kernel.exists() {
        return Ok(kernel);
    }

    eprintln!("building a kernel that mounts its root itself: this takes some minutes, once");
    let start = Instant::now();
    let work = Scratch::new(&stem)?;
    let source = unpack_source(&packages, work.path())?;
    configure(&source, &list, &options)?;
    let jobs = available_parallelism().map_or(1, std::num::NonZero::get);
    run(make(&source).arg(format!("-j{jobs}")).arg(TARGET)).context("the kernel does not build")?;
    // A name of its own until it is whole.
    let partial = stem.with_extension("partial");
    fs::copy(source.join(PRODUCT), &partial).with_context(|| format!("cannot copy {PRODUCT} to {partial:?}"))?;
    fs::rename(&partial, &kernel).with_context(|| format!("cannot rename {partial:?}"))?;
    eprintln!("built {} in {:.0} s", kernel.display(), start.elapsed().as_secs_f64());
    Ok(kernel)
}

/// Downloads the source and unpacks what is needed of it below `work`; gives back its directory.
fn unpack_source(packages: &Packages, work: &Path) -> Result<PathBuf> {
    let tree = work.join("package");
    packages.unpack(&[PACKAGE], &tree)?;
    let archive = tree.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    let mut command = Command::new("tar");
    command.arg("-xf").arg(&archive).arg("-C").arg(work);
    command.args(LEFT_OUT.map(|path| format!("--exclude={PACKAGE}/{path}")));
    run(&mut command)?;
    Ok(work.join(PACKAGE))
}

/// Answers all questions of the kernel's configuration: as the list says, else "no". Fails if one of the list's answers
/// did not stay.
fn configure(source: &Path, list: &Path, options: &Options) -> Result<()> {
    run(make(source).env("KCONFIG_ALLCONFIG", list).arg("allnoconfig"))?;
    let path = source.join(".config");
    let result = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let dropped = options.missing_in(&result);
    if !dropped.is_empty() {
        bail!(
            "the kernel's own rules do not leave these lines of {list:?} as they are: {} (an option that it depends on \
             is missing, or another one wants it otherwise: see its entry in Kconfig)",
            dropped.join(", ")
        );
    }
    Ok(())
}

/// `make` in the source, with all that would make two builds of the same source differ told.
fn make(source: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("--silent").arg("-C").arg(source).arg(format!("ARCH={ARCHITECTURE}"));
    command.env("LC_ALL", "C").env("KBUILD_BUILD_TIMESTAMP", "2023-11-14T22:13:20Z");
    command.env("KBUILD_BUILD_USER", "walt").env("KBUILD_BUILD_HOST", "walt");
    // Of whoever has called us.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("CFLAGS").env_remove("KCFLAGS");
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_options_that_the_documentation_names_are_those_of_the_list() -> Result<()> {
        let read = |path: &str| fs::read_to_string(crate::repository().join(path)).context(path.to_owned());
        let list = read(&format!("xtask/kernel/{ARCHITECTURE}.config"))?;
        let documentation = read("docs/kernel-nfsroot.md")?;
        let table = documentation.lines().filter(|line| line.starts_with("| `CONFIG_"));
        let words = table.flat_map(|line| line.split('`')).filter(|word| word.starts_with("CONFIG_"));
        let wanted: BTreeSet<String> = words.map(|word| format!("{word}=y\n")).collect();
        assert!(wanted.len() > 20, "{wanted:?}");
        assert_eq!(Options::parse(&wanted.into_iter().collect::<String>())?.missing_in(&list), Vec::<String>::new());
        Ok(())
    }
}
