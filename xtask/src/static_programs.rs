//! Programs that run on a node of any image: static, for the machine's own architecture. Those of others come from
//! crates.io, at a fixed version; they are tools of the tests, and no part of ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use testbed::process::run;

use crate::programs::cargo;

/// The second for a machine whose toolchain lacks the first.
const WAYS: [(&str, &str); 2] =
    [("x86_64-unknown-linux-musl", ""), ("x86_64-unknown-linux-gnu", "-C target-feature=+crt-static")];

/// A test suite of others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// The file system test suite of pjd, in Rust (BSD-2-Clause).
pub(crate) const PJDFSTEST: Suite = Suite { name: "pjdfstest", version: "0.2.2" };

/// The file system exerciser, in Rust (APSL-2.0).
pub(crate) const FSX: Suite = Suite { name: "fsx", version: "0.3.2" };

impl Suite {
    /// Builds it, unless it is there. A lab has no way to a package registry: there it must have been built.
    pub(crate) fn built(&self) -> Result<PathBuf> {
        let root = crate::image::cache_directory()?.join("suites").join(format!("{}-{}", self.name, self.version));
        let program = root.join("bin").join(self.name);
        if program.exists() {
            return Ok(program);
        }
        eprintln!("building {} {}", self.name, self.version);
        in_some_way(self.name, |target, flags| {
            let mut command = cargo();
            command.args(["install", "--quiet", "--locked", self.name, "--version", self.version, "--target", target]);
            command.arg("--root").arg(&root).arg("--target-dir").arg(crate::target_directory().join("suites/build"));
            run(command.env("RUSTFLAGS", flags)).map(drop)
        })?;
        Ok(program)
    }
}

/// Builds an example of the package `walt-node`.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let installed = crate::target_directory().join("suites").join(name);
    if testbed::lab::inside() {
        return Ok(installed);
    }
    let mut program = PathBuf::new();
    in_some_way(name, |target, flags| {
        let mut command = cargo();
        command.args(["build", "--quiet", "--package", "walt-node", "--profile", "agent", "--target", target]);
        command.args(["--example", name]).env("RUSTFLAGS", flags);
        program = crate::target_directory().join(target).join("agent/examples").join(name);
        run(&mut command).map(drop)
    })?;
    std::fs::create_dir_all(installed.parent().unwrap_or(Path::new("/")))?;
    std::fs::copy(&program, &installed).with_context(|| format!("cannot copy {program:?}"))?;
    Ok(installed)
}

fn in_some_way(name: &str, mut build: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    let mut failures = Vec::new();
    for (target, flags) in WAYS {
        match build(target, flags) {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("{target}: {error:#}")),
        }
    }
    bail!("{name} does not build: {}", failures.join("; "))
}
