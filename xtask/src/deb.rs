//! `x deb`: the Debian package, from a tree that is laid out here and packed by dpkg-deb. The same programs give the same
//! package, byte by byte.

mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use testbed::process::{run, run_shown};

use crate::agents::{self, ARCHITECTURES};
use crate::man;
use crate::programs::{self, Profile, cargo};
use tree::Tree;

/// Name of the package.
pub(crate) const NAME: &str = "walt-server";

/// Builds the package that people install, and has lintian look at it.
pub(crate) fn run_command() -> Result<ExitCode> {
    let package = build(Profile::Release)?;
    println!("{} ({:.1} MB)", package.display(), fs::metadata(&package)?.len() as f64 / 1e6);
    check(&package)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds it of these programs. Agents: all that this machine can build in a release, else that of PCs.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let architectures = match profile {
        Profile::Release => agents::build_all()?
            .into_iter()
            .filter_map(|outcome| match outcome.result {
                Ok(_) => Some(outcome.architecture),
                Err(error) => {
                    println!("deb: no agent for {}: {error:#}", outcome.architecture);
                    None
                }
            })
            .collect(),
        Profile::Test => vec![boot::Architecture::X86_64],
    };
    let programs = programs::build(profile, &architectures)?;
    let pages = man::build()?;
    let directory = crate::target_directory().join("deb");
    let tree = Tree::new(&directory.join(if profile == Profile::Release { "tree" } else { "tree-test" }))?;

    for (program, to) in [
        ("walt", "usr/bin"),
        ("walt-dhcp-event", "usr/bin"),
        ("walt-server-daemon", "usr/sbin"),
        ("walt-server-setup", "usr/sbin"),
    ] {
        tree.program(&programs.directory.join(program), &format!("{to}/{program}"))?;
    }
    for architecture in ARCHITECTURES.iter().filter(|one| architectures.contains(one)) {
        let agent = format!("{architecture}/walt-node");
        // It was stripped when it was built, and strip(1) of this machine does not know all architectures.
        tree.file(&programs.agents.join(&agent), &format!("usr/lib/walt/agent/{agent}"), 0o755)?;
    }
    documents(&tree, &pages)?;
    let walt = programs.directory.join("walt");
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/walt"),
        ("zsh", "usr/share/zsh/vendor-completions/_walt"),
        ("fish", "usr/share/fish/vendor_completions.d/walt.fish"),
    ] {
        tree.text(&run(Command::new(&walt).args(["completion", shell]))?, path, 0o644)?;
    }
    let repository = crate::repository();
    tree.file(&repository.join("docs/walt-server.service"), "usr/lib/systemd/system/walt-server.service", 0o644)?;
    tree.file(&repository.join("docs/server.toml"), "etc/walt/server.toml", 0o644)?;
    tree.pack(&control(&tree)?, &directory, profile)
}

/// Where [`build`] puts the package of programs that are built as for tests.
pub(crate) fn built_for_tests() -> PathBuf {
    crate::target_directory().join(format!("deb/test/{NAME}_{}_amd64.deb", env!("CARGO_PKG_VERSION")))
}

/// Man pages, what is below /usr/share/doc, and what lintian is to overlook.
fn documents(tree: &Tree, pages: &Path) -> Result<()> {
    let repository = crate::repository();
    let doc = format!("usr/share/doc/{NAME}");
    for entry in fs::read_dir(pages)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a page has a name")?;
        let section = name.rsplit('.').next().unwrap_or_default();
        tree.compressed(&fs::read(&path)?, &format!("usr/share/man/man{section}/{name}.gz"))?;
    }
    tree.file(&repository.join("packaging/debian/copyright"), &format!("{doc}/copyright"), 0o644)?;
    tree.compressed(changelog()?.as_bytes(), &format!("{doc}/changelog.gz"))?;
    tree.compressed(&fs::read(repository.join("CHANGELOG.md"))?, &format!("{doc}/CHANGELOG.md.gz"))?;
    tree.compressed(libraries()?.as_bytes(), &format!("{doc}/libraries.gz"))?;
    tree.file(&repository.join("docs/openapi.json"), &format!("{doc}/openapi.json"), 0o644)?;
    for directory in ["docs", "docs/external-dhcp"] {
        for entry in fs::read_dir(repository.join(directory))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let wanted = directory != "docs" || name.ends_with(".md");
            if path.is_file() && wanted {
                let under = directory.trim_start_matches("docs").trim_start_matches('/');
                tree.file(&path, &Path::new(&doc).join(under).join(name).to_string_lossy(), 0o644)?;
            }
        }
    }
    tree.file(
        &repository.join("packaging/debian/lintian-overrides"),
        &format!("usr/share/lintian/overrides/{NAME}"),
        0o644,
    )
}

/// The file `control`, with what depends on the programs.
fn control(tree: &Tree) -> Result<String> {
    let text = fs::read_to_string(crate::repository().join("packaging/debian/control"))?;
    let filled = text
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SHLIBS@", &tree.libraries()?)
        .replace("@SIZE@", &tree.kibibytes()?.to_string());
    ensure!(
        !filled.contains('@') || filled.matches('@').count() == 1,
        "a word of packaging/debian/control is not filled in"
    );
    Ok(filled)
}

/// Debian's form of it (deb-changelog(5)); the story itself is in CHANGELOG.md.
fn changelog() -> Result<String> {
    let control = fs::read_to_string(crate::repository().join("packaging/debian/control"))?;
    let maintainer =
        control.lines().find_map(|line| line.strip_prefix("Maintainer: ")).context("nobody maintains it")?;
    let date = run(Command::new("date").args(["--utc", "--rfc-email", "--date", &format!("@{}", epoch())]))?;
    Ok(format!(
        "{NAME} ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- {maintainer}  {}\n",
        env!("CARGO_PKG_VERSION"),
        date.trim()
    ))
}

/// The libraries that are in the programs, with their licences.
fn libraries() -> Result<String> {
    let mut command = cargo();
    command.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"]);
    command.args(["--package", "walt-server", "--package", "walt-cli", "--package", "walt-node"]);
    let text = run(&mut command)?;
    // Ours have a path behind their version.
    let mut lines: Vec<&str> = text.lines().filter(|line| line.contains('\t') && !line.contains('/')).collect();
    lines.extend(text.lines().filter(|line| line.contains('\t') && line.contains('/') && !line.contains("(/")));
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// The time of the last commit: nothing in the package is newer.
pub(crate) fn epoch() -> u64 {
    let text = run(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(crate::repository()));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1_700_000_000)
}

/// lintian, where it is installed.
fn check(package: &Path) -> Result<()> {
    if run(Command::new("lintian").arg("--version")).is_err() {
        println!("deb: lintian is not installed (apt install lintian): the package is not looked at");
        return Ok(());
    }
    run_shown(Command::new("lintian").args(["--fail-on", "error", "--tag-display-limit", "0"]).arg(package))
}
