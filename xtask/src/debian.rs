//! Debian's packages of any architecture, without installing them.
//!
//! Each architecture has an apt of its own in the cache: it knows the images' release, whatever this machine's is, and
//! verifies what it downloads as the machine's own apt does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use boot::Architecture;
use testbed::process::run;

use crate::image::cache_directory;

/// The release in the images, whatever the release of the machine that builds them.
pub(crate) const SUITE: &str = "bookworm";

/// How long the lists of packages are believed.
const FRESH: Duration = Duration::from_secs(12 * 3600);

/// What Debian calls an architecture.
pub(crate) fn name_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::X86 => "i386",
        Architecture::Armv6 => "armel",
        Architecture::Armv7 => "armhf",
        Architecture::Aarch64 => "arm64",
    }
}

/// An apt for one architecture.
pub(crate) struct Packages {
    configuration: PathBuf,
    architecture: Architecture,
}

impl Packages {
    /// Opens it, and asks for the lists of packages if those at hand are old.
    pub(crate) fn of(architecture: Architecture) -> Result<Self> {
        let root = cache_directory()?.join(format!("apt-{}", name_of(architecture)));
        for directory in ["lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(root.join(directory)).with_context(|| format!("cannot create {root:?}"))?;
        }
        let lock = fs::File::create(root.join("lock"))?;
        lock.lock().context("cannot lock the lists of packages")?;
        let configuration = root.join("apt.conf");
        let (name, at) = (name_of(architecture), root.display());
        fs::write(root.join("status"), "")?;
        // Firmware that only its maker can build is not in `main`.
        let sources = package_sources()?;
        let sources = sources.replace(" main\n", " main non-free-firmware\n");
        let list = if sources.contains("Types:") { "packages.sources" } else { "packages.list" };
        fs::write(root.join(list), sources)?;
        fs::write(
            &configuration,
            format!(
                "APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\nAPT::Sandbox::User \"root\";\n\
                 Dir::State \"{at}/state\";\nDir::State::lists \"{at}/lists\";\nDir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}/cache\";\nDir::Etc::sourcelist \"{at}/{list}\";\nDir::Etc::sourceparts \"-\";\n"
            ),
        )?;
        let packages = Self { configuration, architecture };
        let stamp = root.join("updated");
        let age = fs::metadata(&stamp).ok().and_then(|data| data.modified().ok()?.elapsed().ok());
        if age.is_none_or(|age| age > FRESH) {
            // A mirror may be between two states of one of its lists. What else there is may do.
            match run(packages.apt("apt-get").args(["-q", "update"])) {
                Ok(_) => fs::write(&stamp, "")?,
                Err(error) => eprintln!("not all lists of packages for {name} could be had: {error:#}"),
            }
        }
        Ok(packages)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    /// Downloads `packages` and unpacks their files below `tree`; none of their scripts runs.
    ///
    /// A name such as `linux-image-amd64` that only stands for the kernel of the day gets that kernel.
    pub(crate) fn unpack(&self, packages: &[&str], tree: &Path) -> Result<()> {
        let names: Vec<String> = packages.iter().map(|package| self.real(package)).collect::<Result<_>>()?;
        let work = tree.with_extension("packages");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {work:?}"))?;
        run(self.apt("apt-get").args(["-q", "download"]).args(&names).current_dir(&work))
            .with_context(|| format!("Debian's packages for {}", name_of(self.architecture)))?;
        for entry in fs::read_dir(&work)? {
            run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(tree))?;
        }
        fs::remove_dir_all(&work)?;
        Ok(())
    }

    /// The version of a package that would be downloaded.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let about = run(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        let version = about.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version.with_context(|| format!("apt knows no version of {package}"))?.to_owned())
    }

    fn real(&self, package: &str) -> Result<String> {
        if !matches!(package, "linux-image-amd64" | "linux-image-arm64" | "linux-image-armmp") {
            return Ok(package.to_owned());
        }
        let about = run(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        let depends = about.lines().find_map(|line| line.strip_prefix("Depends: "));
        let depends = depends.with_context(|| format!("{package} depends on nothing"))?;
        Ok(depends.split([' ', ',']).next().unwrap_or_default().to_owned())
    }
}

/// This machine's own package sources, as it has them, with its release replaced by the images'.
pub(crate) fn package_sources() -> Result<String> {
    sources_of(SUITE)
}

/// The release that this machine runs.
pub(crate) fn own_release() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    Ok(release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or(SUITE).to_owned())
}

/// The same for any release.
pub(crate) fn sources_of(suite: &str) -> Result<String> {
    let own = own_release()?;
    let own = own.as_str();
    let directory = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = directory.chain([PathBuf::from("/etc/apt/sources.list")]).collect();
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let Ok(text) = fs::read_to_string(&file) else { continue };
        // Third parties' packages have no place in an image that is said to be Debian's.
        if matches!(extension, "list" | "sources") && text.contains(own) && text.contains("debian") {
            sources.push(text.replace(own, suite));
        }
    }
    if sources.is_empty() {
        bail!("no Debian package source in /etc/apt names the release {own}");
    }
    // Stanzas of the two formats cannot be mixed in one file; this machine uses one of them.
    Ok(sources.join("\n\n"))
}

/// The same sources with the release as it came out alone: without security updates and the like.
pub(crate) fn without_updates(sources: &str) -> String {
    // In the one-line format, each source is a line; in the other, a line lists the suites of a stanza.
    let is_update = |line: &&str| line.starts_with("deb ") && line.contains(&format!(" {SUITE}-"));
    let lines: Vec<_> = sources.lines().filter(|line| !is_update(line)).collect();
    let text = lines.join("\n").replace(&format!(" {SUITE}-updates"), "");
    let has_release = |stanza: &&str| !stanza.contains(&format!("Suites: {SUITE}-"));
    text.split("\n\n").filter(has_release).collect::<Vec<_>>().join("\n\n").trim_end().to_owned() + "\n"
}

/// Lets this machine run programs of `architecture`, by QEMU's user emulation: Debian's packages run theirs when they are
/// installed. Nothing is done where the processor can, or where the system has set it up.
pub(crate) fn let_run(architecture: Architecture) -> Result<()> {
    let name = match architecture {
        Architecture::X86_64 | Architecture::X86 => return Ok(()),
        Architecture::Aarch64 => "qemu-aarch64",
        Architecture::Armv6 | Architecture::Armv7 => "qemu-arm",
    };
    let directory = Path::new("/proc/sys/fs/binfmt_misc");
    if directory.join(name).exists() {
        return Ok(());
    }
    let register = directory.join("register");
    if !register.exists() {
        run(Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc"]).arg(directory))
            .context("this kernel cannot be told how to run programs of other processors (binfmt_misc)")?;
    }
    // What systemd-binfmt does at the start of a machine that has the package qemu-user-static.
    let source = Path::new("/usr/lib/binfmt.d").join(name).with_extension("conf");
    let rule = fs::read(&source).with_context(|| format!("cannot read {source:?} (package qemu-user-static)"))?;
    fs::write(&register, rule).with_context(|| format!("cannot register {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_can_be_left_out_of_both_formats() {
        let stanzas = "Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n\
                       Types: deb\nURIs: http://m/debian-security\nSuites: bookworm-security\nComponents: main\n";
        let left = "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(without_updates(stanzas), left);
        let lines = "deb http://m/debian bookworm main\ndeb http://m/debian bookworm-updates main\n\
                     deb http://m/debian-security bookworm-security main\n";
        assert_eq!(without_updates(lines), "deb http://m/debian bookworm main\n");
    }
}
