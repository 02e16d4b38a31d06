//! `x agents`: the program of the nodes, static, for every architecture that this machine's toolchains can build for.
//!
//! Two kinds of toolchain do: rustup's targets with musl, which bring their own C library and linker, and those with
//! glibc, which want a C compiler for the architecture (Debian's `gcc-*` and `libc6-dev-*-cross`). musl comes first: it
//! makes the agent half as large. For some targets of the second kind nobody offers Rust's standard library: it is built
//! with the agent, from its source.

mod debian_std;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use boot::Architecture;
use testbed::process::{run, run_words};

use crate::programs::cargo;

/// Every architecture of a node.
pub(crate) const ARCHITECTURES: [Architecture; 5] =
    [Architecture::X86_64, Architecture::Aarch64, Architecture::Armv7, Architecture::X86, Architecture::Armv6];

/// A way to build for an architecture.
struct Target {
    /// Its name in Rust.
    triple: &'static str,
    /// The C compiler that links it, and the packages of Debian that bring it; `None`: the linker that comes with Rust.
    linker: Option<(&'static str, &'static str)>,
}

const fn musl(triple: &'static str) -> Target {
    Target { triple, linker: None }
}

const fn glibc(triple: &'static str, compiler: &'static str, packages: &'static str) -> Target {
    Target { triple, linker: Some((compiler, packages)) }
}

/// The ways, the best one first.
fn targets(architecture: Architecture) -> Vec<Target> {
    match architecture {
        Architecture::X86_64 => {
            vec![musl("x86_64-unknown-linux-musl"), glibc("x86_64-unknown-linux-gnu", "cc", "gcc libc6-dev")]
        }
        Architecture::X86 => vec![
            musl("i686-unknown-linux-musl"),
            glibc("i686-unknown-linux-gnu", "i686-linux-gnu-gcc", "gcc-i686-linux-gnu libc6-dev-i386-cross"),
        ],
        Architecture::Aarch64 => vec![
            musl("aarch64-unknown-linux-musl"),
            glibc("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        ],
        Architecture::Armv7 => vec![
            musl("armv7-unknown-linux-musleabihf"),
            glibc(
                "armv7-unknown-linux-gnueabihf",
                "arm-linux-gnueabihf-gcc",
                "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
            ),
        ],
        // Debian's C library with hard floats is for ARMv7, the one with soft floats for ARMv5 and later.
        Architecture::Armv6 => vec![
            musl("arm-unknown-linux-musleabihf"),
            glibc("arm-unknown-linux-gnueabi", "arm-linux-gnueabi-gcc", "gcc-arm-linux-gnueabi libc6-dev-armel-cross"),
        ],
    }
}

/// Where Rust's standard library for a target comes from.
enum Std {
    /// The toolchain has it.
    Toolchain,
    /// Debian's, in this directory for `rustc --sysroot`.
    Debian(PathBuf),
    /// The toolchain has its source (`cargo -Z build-std`, in the unstable book of cargo).
    Source,
}

/// An agent that was built, or why it was not.
pub(crate) struct Outcome {
    pub(crate) architecture: Architecture,
    /// Where it is, and what built it.
    pub(crate) result: Result<(PathBuf, &'static str)>,
}

/// Builds all that can be built, below [`directory`], and prints what it did and what it could not.
pub(crate) fn run_command() -> Result<()> {
    let outcomes = build_all()?;
    for Outcome { architecture, result } in &outcomes {
        match result {
            Ok((path, triple)) => {
                let size = fs::metadata(path)?.len();
                println!("{architecture:8} {size:>9} bytes  {triple:30} {}", path.display());
            }
            Err(error) => println!("{architecture:8} missing: {error:#}"),
        }
    }
    if outcomes.iter().all(|outcome| outcome.result.is_err()) {
        bail!("no agent could be built");
    }
    Ok(())
}

/// Where the agents are, as an installation has them: `<architecture>/walt-node`.
pub(crate) fn directory() -> PathBuf {
    crate::target_directory().join("agents")
}

/// Builds the agents of all architectures that this machine can build for.
///
/// # Errors
/// When not even the agent for this machine's own architecture can be built.
pub(crate) fn build_all() -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for architecture in ARCHITECTURES {
        outcomes.push(Outcome { architecture, result: build(architecture) });
    }
    match outcomes.iter().find(|outcome| outcome.architecture == Architecture::X86_64) {
        Some(Outcome { result: Err(error), .. }) => bail!("the agent does not build: {error:#}"),
        _ => Ok(outcomes),
    }
}

/// Builds the agents for these architectures, and says where they are. Inside of a lab, which has no way to a package
/// registry, they were built before it was entered.
///
/// # Errors
/// The first of them that can not be built.
pub(crate) fn built(architectures: &[Architecture]) -> Result<PathBuf> {
    if !testbed::lab::inside() {
        for architecture in architectures.iter().copied().collect::<BTreeSet<_>>() {
            build(architecture).with_context(|| format!("no agent for {architecture}"))?;
        }
    }
    Ok(directory())
}

fn build(architecture: Architecture) -> Result<(PathBuf, &'static str)> {
    let installed = directory().join(architecture.to_string()).join("walt-node");
    let targets = targets(architecture);
    let mut wanting = Vec::new();
    for target in &targets {
        let std = match usable(target, architecture) {
            Ok(std) => std,
            Err(why) => {
                wanting.push(format!("{}: {why}", target.triple));
                continue;
            }
        };
        let mut command = cargo();
        command.args(["build", "--quiet", "--package", "walt-node", "--profile", "agent", "--target", target.triple]);
        let mut flags = "-C target-feature=+crt-static".to_owned();
        let mut directory = crate::target_directory();
        // What is built with one standard library, or as if by another compiler, is useless to the others.
        match std {
            Std::Toolchain => {}
            Std::Debian(sysroot) => {
                flags.push_str(&format!(" --sysroot={}", sysroot.display()));
                directory.push("debian-std");
            }
            Std::Source => {
                command.env("RUSTC_BOOTSTRAP", "1").args(["-Z", "build-std=std,panic_abort"]);
                directory.push("std-from-source");
            }
        }
        command.arg("--target-dir").arg(&directory);
        let variable = format!("CARGO_TARGET_{}_LINKER", target.triple.to_uppercase().replace('-', "_"));
        command.env("RUSTFLAGS", flags).env(variable, target.linker.map_or("rust-lld", |(compiler, _)| compiler));
        run(&mut command).with_context(|| format!("the agent for {architecture} does not build"))?;
        install(&directory.join(target.triple).join("agent/walt-node"), &installed)?;
        return Ok((installed, target.triple));
    }
    bail!("{}", wanting.join("; "))
}

/// Whether `target` can be built for, and with which standard library; the error says how to get what is missing.
fn usable(target: &Target, architecture: Architecture) -> Result<Std, String> {
    if let Some((compiler, packages)) = target.linker
        && run(Command::new("sh").args(["-c", &format!("command -v {compiler}")])).is_err()
    {
        return Err(format!("no {compiler} (apt-get install {packages})"));
    }
    if has_std(&toolchain_libraries(target.triple)?) {
        return Ok(Std::Toolchain);
    }
    let mut why = if has_rustup() {
        match add("target", target.triple) {
            Ok(()) => return Ok(Std::Toolchain),
            Err(why) => format!("rustup target add {}: {why}", target.triple),
        }
    } else if target.linker.is_some() {
        match debian_std::sysroot(architecture) {
            Ok(sysroot) => return Ok(Std::Debian(sysroot)),
            Err(why) => why.to_string(),
        }
    } else {
        format!("with rustup: rustup target add {}", target.triple)
    };
    // A C library for it is there: that is all that is missing.
    if target.linker.is_some() {
        match source() {
            Ok(()) => return Ok(Std::Source),
            Err(no_source) => why.push_str(&format!("; nor its source: {no_source}")),
        }
    }
    Err(format!("no standard library ({why})"))
}

/// Sees to it that the toolchain has the source of the standard library.
fn source() -> Result<(), String> {
    let sysroot = run_words("rustc --print sysroot").map_err(|error| format!("{error:#}"))?;
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        Ok(())
    } else if has_rustup() {
        add("component", "rust-src").map_err(|why| format!("rustup component add rust-src: {why}"))
    } else {
        Err("apt-get install rust-web-src".to_owned())
    }
}

/// Where the toolchain has the libraries of a target, if it has them.
fn toolchain_libraries(triple: &str) -> Result<PathBuf, String> {
    let path = run(Command::new("rustc").args(["--print", "target-libdir", "--target", triple]));
    path.map(|path| PathBuf::from(path.trim())).map_err(|error| format!("{error:#}"))
}

fn has_std(libraries: &Path) -> bool {
    let names = fs::read_dir(libraries).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("libstd-"))
}

fn has_rustup() -> bool {
    run_words("rustup --version").is_ok()
}

/// `rustup KIND add NAME`. What it cannot bring for this release of Rust is not asked for again.
fn add(kind: &str, name: &str) -> Result<(), String> {
    let version = run_words("rustc --version").unwrap_or_default();
    let refused = crate::target_directory().join(format!("no-{name}"));
    if fs::read_to_string(&refused).is_ok_and(|text| text == version) {
        return Err("it is not to be had".to_owned());
    }
    let added = run(Command::new("rustup").args([kind, "add", name]).current_dir(crate::repository()));
    added.map(drop).map_err(|error| {
        // Without this file it is tried again, and that is all.
        let _ = fs::write(&refused, version);
        let text = format!("{error:#}");
        text.lines().find(|line| line.contains("error:")).unwrap_or(&text).trim().to_owned()
    })
}

/// Copies what was built to where the server finds it, in one step: another run may be reading it.
fn install(built: &Path, installed: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {built:?}"))?;
    if fs::read(installed).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = installed.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(installed.parent().context("an agent needs a directory")?)?;
    fs::copy(built, &partial).with_context(|| format!("cannot write {partial:?}"))?;
    fs::rename(&partial, installed).with_context(|| format!("cannot rename {partial:?}"))
}
