//! The tree of a package: files are put into it, and it is packed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testbed::process::run;

use super::{NAME, epoch};
use crate::programs::Profile;

/// Scripts and lists of the package itself; 0o755 for those that dpkg runs.
const CONTROL: &[(&str, u32)] = &[("postinst", 0o755), ("prerm", 0o755), ("postrm", 0o755), ("triggers", 0o644)];

pub(super) struct Tree(PathBuf);

impl Tree {
    /// An empty one.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path.join("DEBIAN")).with_context(|| format!("cannot create {path:?}"))?;
        Ok(Self(path.to_owned()))
    }

    fn place(&self, to: &str) -> Result<PathBuf> {
        let path = self.0.join(to);
        fs::create_dir_all(path.parent().context("a file needs a directory")?)?;
        Ok(path)
    }

    pub(super) fn file(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let path = self.place(to)?;
        fs::copy(from, &path).with_context(|| format!("cannot copy {from:?} to {path:?}"))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(mode))?)
    }

    pub(super) fn text(&self, text: &str, to: &str, mode: u32) -> Result<()> {
        let path = self.place(to)?;
        fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(mode))?)
    }

    /// A program of this machine's architecture, without what debuggers want.
    pub(super) fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.file(from, to, 0o755)?;
        run(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(self.0.join(to)))
            .map(drop)
    }

    pub(super) fn compressed(&self, content: &[u8], to: &str) -> Result<()> {
        let path = self.place(to)?;
        let plain = path.with_extension("");
        fs::write(&plain, content).with_context(|| format!("cannot write {plain:?}"))?;
        run(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(&plain))?;
        Ok(fs::set_permissions(&path, Permissions::from_mode(0o644))?)
    }

    /// What the programs need of Debian's libraries (dpkg-shlibdeps(1)).
    pub(super) fn libraries(&self) -> Result<String> {
        let work = self.0.with_extension("shlibs");
        fs::create_dir_all(work.join("debian"))?;
        fs::write(work.join("debian/control"), format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n"))?;
        let mut command = Command::new("dpkg-shlibdeps");
        command.arg("-O").current_dir(&work);
        for program in
            ["usr/bin/walt", "usr/bin/walt-dhcp-event", "usr/sbin/walt-server-daemon", "usr/sbin/walt-server-setup"]
        {
            command.arg(format!("-e{}", self.0.join(program).canonicalize()?.display()));
        }
        let text = run(&mut command).context("which libraries the programs need (package dpkg-dev)")?;
        fs::remove_dir_all(&work)?;
        let depends = text.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
        Ok(depends.context("dpkg-shlibdeps finds no library")?.trim().to_owned())
    }

    /// Size of all of it once installed.
    pub(super) fn kibibytes(&self) -> Result<u64> {
        let text = run(Command::new("du").args(["-k", "-s", "--apparent-size", "--exclude=DEBIAN"]).arg(&self.0))?;
        text.split_whitespace().next().and_then(|size| size.parse().ok()).context("du tells no size")
    }

    /// Packs it with this `control`.
    pub(super) fn pack(&self, control: &str, directory: &Path, profile: Profile) -> Result<PathBuf> {
        let packaging = crate::repository().join("packaging/debian");
        for (name, mode) in CONTROL {
            self.file(&packaging.join(name), &format!("DEBIAN/{name}"), *mode)?;
        }
        self.text(control, "DEBIAN/control", 0o644)?;
        self.text("/etc/walt/server.toml\n", "DEBIAN/conffiles", 0o644)?;
        let sums =
            "find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\\0' | sort -z | xargs -0 md5sum";
        let sums = run(Command::new("sh").args(["-c", sums]).current_dir(&self.0))?;
        self.text(&sums, "DEBIAN/md5sums", 0o644)?;
        run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&self.0))?;
        let epoch = epoch();
        let touch = ["-depth", "-exec", "touch", "--no-dereference", "--date", &format!("@{epoch}"), "{}", "+"];
        run(Command::new("find").arg(&self.0).args(touch))?;
        // A package of unoptimised programs is for a test that waits for it.
        let (name, compression) = match profile {
            Profile::Release => (format!("{NAME}_{}_amd64.deb", env!("CARGO_PKG_VERSION")), &["-Zxz"][..]),
            Profile::Test => (format!("test/{NAME}_{}_amd64.deb", env!("CARGO_PKG_VERSION")), &["-Zgzip", "-z1"][..]),
        };
        let package = directory.join(name);
        fs::create_dir_all(package.parent().context("a package has a directory")?)?;
        let mut command = Command::new("dpkg-deb");
        command.args(["--root-owner-group"]).args(compression).arg("--build").arg(&self.0).arg(&package);
        run(command.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
        Ok(package)
    }
}
