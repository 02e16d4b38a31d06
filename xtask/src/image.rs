//! `x image`: builds the images of `images/` from Debian's packages.
//!
//! Each is two layers: the packages, which take a minute or more, and what the recipe adds to them. Both are kept in a
//! cache under a name made of all that goes into them, so that a change of a start script costs a second.

mod debian;
mod oci;
mod tiny;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use testbed::process::run;

use oci::{Description, Layer};

pub(crate) use oci::{hex, sha256_of_file};
pub(crate) use tiny::unpack_packages;

/// An image that is ready to be pushed.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The image as an OCI archive (`skopeo copy oci-archive:…`).
    pub archive: PathBuf,
    /// `name:tag` for a registry.
    pub name: String,
    layers: Vec<Layer>,
}

impl Built {
    /// Unpacks the image into a directory, as one would who serves it with other tools.
    pub(crate) fn unpack(&self, tree: &Path) -> Result<()> {
        fs::create_dir_all(tree)?;
        for layer in &self.layers {
            // No layer of a recipe removes a file of a lower one: plain tar does it.
            run(Command::new("tar").arg("-xpzf").arg(&layer.blob).arg("--numeric-owner").arg("-C").arg(tree))?;
        }
        Ok(())
    }
}

/// A recipe of `images/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    /// Debian 12 with systemd and openssh: the real thing.
    DebianPc,
    /// busybox and dropbear: boots in seconds.
    TinyPc,
}

impl Recipe {
    /// The recipe of this name, such as `debian-pc` or, for short, `debian`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "debian-pc" | "debian" => Ok(Self::DebianPc),
            "tiny-pc" | "tiny" => Ok(Self::TinyPc),
            other => bail!("no image recipe is called {other:?}; there are debian-pc and tiny-pc"),
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::DebianPc => "debian-pc",
            Self::TinyPc => "tiny-pc",
        }
    }

    fn description(self) -> Description<'static> {
        match self {
            Self::DebianPc => Description { name: "walt/debian-pc:12", models: &["pc-x86-64"] },
            Self::TinyPc => Description { name: "walt/tiny-pc:1", models: &["pc-x86-64"] },
        }
    }
}

/// Builds `recipe`, or finds it in the cache. `agent` is the program of the nodes, for an image with our initramfs.
pub(crate) fn build(recipe: Recipe, agent: &Path) -> Result<Built> {
    let cache = cache_directory()?;
    let source = crate::repository().join("images").join(recipe.directory());
    // Two runs that need the same image build it once.
    let lock = File::create(cache.join(format!("{}.lock", recipe.directory())))?;
    lock.lock().context("cannot lock the image cache")?;
    let base = match recipe {
        Recipe::DebianPc => debian::base_layer(&source, &cache)?,
        Recipe::TinyPc => tiny::base_layer(&source, &cache)?,
    };
    let mut layers = vec![base, recipe_layer(&source, &cache)?];
    if recipe == Recipe::TinyPc {
        layers.push(tiny::initramfs_layer(&layers[0], agent, &cache)?);
    }
    archive(&recipe.description(), layers, &cache)
}

/// `from` with one more layer that holds `files` (path below the root, content), under another name. An empty file
/// `.wh.<name>` takes the file `<name>` of `from` away (OCI image specification, "Whiteouts").
pub(crate) fn derive<Content: AsRef<[u8]>>(from: &Built, name: &str, files: &[(&str, Content)]) -> Result<Built> {
    let cache = cache_directory()?;
    let mut key = Key::new("derived layer");
    for (path, content) in files {
        key.add(path.as_bytes());
        key.add(content.as_ref());
    }
    let stem = key.stem(&cache, "derived");
    let layer = match Layer::cached(&stem) {
        Some(layer) => layer,
        None => {
            let tree = Scratch::new(&stem)?;
            for (path, content) in files {
                let path = tree.path().join(path.trim_start_matches('/'));
                fs::create_dir_all(path.parent().context("a file needs a directory")?)?;
                fs::write(&path, content)?;
            }
            Layer::from_tree(tree.path(), &stem)?
        }
    };
    let mut layers = from.layers.clone();
    layers.push(layer);
    archive(&Description { name, models: &["pc-x86-64"] }, layers, &cache)
}

fn archive(description: &Description<'_>, layers: Vec<Layer>, cache: &Path) -> Result<Built> {
    let mut key = Key::new("archive");
    key.add(description.name.as_bytes());
    for layer in &layers {
        key.add(layer.digest.as_bytes());
    }
    let stem = key.stem(cache, &description.name.replace(['/', ':'], "-"));
    let archive = stem.with_extension("oci.tar");
    if !archive.exists() {
        oci::write_archive(description, &layers, &archive)?;
    }
    Ok(Built { archive, name: description.name.to_owned(), layers })
}

/// Lists of what a recipe wants systemd not to run, and where a link to /dev/null says so (systemd.unit(5),
/// systemd.generator(7)).
const MASKED: [(&str, &str); 2] =
    [("masked-units", "etc/systemd/system"), ("masked-generators", "etc/systemd/system-generators")];

/// The layer that a recipe adds to its packages: its `files/`, and a link to /dev/null for each masked unit.
fn recipe_layer(source: &Path, cache: &Path) -> Result<Layer> {
    let files = source.join("files");
    let masked = MASKED.map(|(list, directory)| (fs::read_to_string(source.join(list)).unwrap_or_default(), directory));
    let mut key = Key::new("recipe layer");
    key.add_tree(&files)?;
    masked.iter().for_each(|(list, _)| key.add(list.as_bytes()));
    let stem = key.stem(cache, "recipe");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }
    let tree = Scratch::new(&stem)?;
    run(Command::new("cp").arg("-a").arg(files.join(".")).arg(tree.path()))?;
    // Whatever the umask of who cloned the repository was.
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(tree.path()))?;
    for (list, directory) in &masked {
        let directory = tree.path().join(directory);
        for name in lines_of(list) {
            fs::create_dir_all(&directory)?;
            symlink("/dev/null", directory.join(name)).with_context(|| format!("cannot mask {name}"))?;
        }
    }
    Layer::from_tree(tree.path(), &stem)
}

/// The lines of a list that are neither empty nor comments.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Where built images are kept: outside of the repository, so that a cleaned one does not build them again.
pub(crate) fn cache_directory() -> Result<PathBuf> {
    let path = std::env::var_os("WALT_CACHE").map_or_else(|| PathBuf::from("/var/cache/walt-lab"), PathBuf::from);
    fs::create_dir_all(&path)
        .with_context(|| format!("cannot create the cache {path:?} (WALT_CACHE names another)"))?;
    Ok(path)
}

/// All that goes into a cached thing, hashed.
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add(kind.as_bytes());
        key
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // With its length, so that ("ab", "c") and ("a", "bc") differ.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds each file below `directory`: path, kind, whether it may be run, content.
    fn add_tree(&mut self, directory: &Path) -> Result<()> {
        let mut entries = fs::read_dir(directory)
            .with_context(|| format!("cannot list {directory:?}"))?
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path)?;
            self.add(entry.file_name().as_encoded_bytes());
            if metadata.is_dir() {
                self.add(b"directory");
                self.add_tree(&path)?;
                self.add(b"end");
            } else if metadata.is_symlink() {
                self.add(b"link");
                self.add(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            } else {
                self.add(if metadata.permissions().mode() & 0o100 != 0 { b"program" } else { b"file" });
                self.add(&fs::read(&path).with_context(|| format!("cannot read {path:?}"))?);
            }
        }
        Ok(())
    }

    pub(crate) fn stem(self, cache: &Path, name: &str) -> PathBuf {
        cache.join(format!("{name}-{}", &hex(&self.0.finalize())[..16]))
    }
}

/// A directory to build in, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(stem: &Path) -> Result<Self> {
        let path = stem.with_extension("build");
        // One that a killed run left: ours alone, since the caller holds the lock or its name is its content.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {path:?}"))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind is removed by the next build of the same thing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_where_one_part_ends() {
        let stem = |parts: [&str; 2]| {
            let mut key = Key::new("test");
            parts.iter().for_each(|p| key.add(p.as_bytes()));
            key.stem(Path::new("/"), "x")
        };
        assert_ne!(stem(["ab", "c"]), stem(["a", "bc"]));
        assert_eq!(stem(["ab", "c"]), stem(["ab", "c"]));
    }

    #[test]
    fn lists_have_comments() {
        assert_eq!(lines_of("# no\n\n one \ntwo\n").collect::<Vec<_>>(), ["one", "two"]);
    }
}
