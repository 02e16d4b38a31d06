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

use anyhow::{Context, Result};
use boot::{Architecture, Bootloader, Model};
use sha2::{Digest, Sha256};
use testbed::process::run;

use oci::{Description, Layer};

pub(crate) use oci::{hex, sha256_of_file};

/// An image that is ready to be pushed.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The image as an OCI archive (`skopeo copy oci-archive:…`).
    pub archive: PathBuf,
    /// `name:tag` for a registry.
    pub name: String,
    models: Vec<String>,
    architecture: Architecture,
    layers: Vec<Layer>,
}

impl Built {
    /// What the image runs on, as an OCI index says it.
    pub(crate) fn platform(&self) -> serde_json::Value {
        oci::platform(self.architecture)
    }

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Recipe {
    /// Debian 12 with systemd and openssh: the real thing.
    DebianPc,
    /// The same for 64-bit ARM.
    DebianArm64,
    /// The same for 32-bit ARM.
    DebianArmhf,
    /// busybox and dropbear: boots in seconds.
    TinyPc,
    /// The same for 64-bit ARM.
    TinyArm64,
    /// The same for 32-bit ARM.
    TinyArmhf,
}

/// What an image consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Debian,
    Tiny,
}

/// Models of the images for ARM: boards that one kernel of Debian runs on.
const ARM64_MODELS: &[&str] = &["qemu-arm-64", "rpi-3-b", "rpi-3-b-plus", "rpi-4-b", "rpi-400"];
const ARMHF_MODELS: &[&str] = &["qemu-arm", "rpi-2-b"];

impl Recipe {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::DebianPc, Self::DebianArm64, Self::DebianArmhf, Self::TinyPc, Self::TinyArm64, Self::TinyArmhf];

    /// The recipe of this name, such as `debian-pc` or, for short, `debian`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::directory);
        let is_it = |recipe: &Self| recipe.directory() == name || recipe.directory().strip_suffix("-pc") == Some(name);
        let found = Self::ALL.into_iter().find(is_it);
        found.with_context(|| format!("no image recipe is called {name:?}; there are {}", names.join(", ")))
    }

    fn directory(self) -> &'static str {
        match self {
            Self::DebianPc => "debian-pc",
            Self::DebianArm64 => "debian-arm64",
            Self::DebianArmhf => "debian-armhf",
            Self::TinyPc => "tiny-pc",
            Self::TinyArm64 => "tiny-arm64",
            Self::TinyArmhf => "tiny-armhf",
        }
    }

    fn family(self) -> Family {
        match self {
            Self::DebianPc | Self::DebianArm64 | Self::DebianArmhf => Family::Debian,
            Self::TinyPc | Self::TinyArm64 | Self::TinyArmhf => Family::Tiny,
        }
    }

    /// What its programs run on.
    pub(crate) fn architecture(self) -> Architecture {
        match self {
            Self::DebianPc | Self::TinyPc => Architecture::X86_64,
            Self::DebianArm64 | Self::TinyArm64 => Architecture::Aarch64,
            Self::DebianArmhf | Self::TinyArmhf => Architecture::Armv7,
        }
    }

    fn description(self) -> Description<'static> {
        let (name, models): (_, &[&str]) = match self {
            Self::DebianPc => ("walt/debian-pc:12", &["pc-x86-64"]),
            Self::DebianArm64 => ("walt/debian-arm64:12", ARM64_MODELS),
            Self::DebianArmhf => ("walt/debian-armhf:12", ARMHF_MODELS),
            Self::TinyPc => ("walt/tiny-pc:1", &["pc-x86-64"]),
            Self::TinyArm64 => ("walt/tiny-arm64:1", ARM64_MODELS),
            Self::TinyArmhf => ("walt/tiny-armhf:1", ARMHF_MODELS),
        };
        Description { name, models, architecture: self.architecture() }
    }

    /// The models that it is for, as the table has them.
    fn models(self) -> impl Iterator<Item = &'static Model> {
        self.description().models.iter().filter_map(|name| Model::by_name(name))
    }
}

/// Builds `recipe`, or finds it in the cache. `agents` is the directory of the nodes' programs, for an image with our
/// initramfs.
pub(crate) fn build(recipe: Recipe, agents: &Path) -> Result<Built> {
    let cache = cache_directory()?;
    let images = crate::repository().join("images");
    let source = images.join(recipe.directory());
    let common = images.join(match recipe.family() {
        Family::Debian => "debian",
        Family::Tiny => "tiny",
    });
    // Two runs that need the same image build it once.
    let lock = File::create(cache.join(format!("{}.lock", recipe.directory())))?;
    lock.lock().context("cannot lock the image cache")?;
    let base = match recipe.family() {
        Family::Debian => debian::base_layer(recipe.architecture(), &common, &source, &cache)?,
        Family::Tiny => tiny::base_layer(recipe, &common, &source, &cache)?,
    };
    let mut layers = vec![base, recipe_layer(recipe, &common, &source, &cache)?];
    if recipe.family() == Family::Tiny {
        layers.push(tiny::initramfs_layer(recipe, &layers[0], agents, &cache)?);
    }
    archive(&recipe.description(), layers, &cache)
}

/// `from` with one more layer that holds `files` (path below the root, content), under another name. An empty file
/// `.wh.<name>` takes the file `<name>` of `from` away (OCI image specification, "Whiteouts").
pub(crate) fn derive<Content: AsRef<[u8]>>(from: &Built, name: &str, files: &[(&str, Content)]) -> Result<Built> {
    let files: Vec<_> = files.iter().map(|(path, content)| (*path, content.as_ref())).collect();
    let mut layers = from.layers.clone();
    layers.push(layer_of(&files)?);
    let models: Vec<_> = from.models.iter().map(String::as_str).collect();
    archive(&Description { name, models: &models, architecture: from.architecture }, layers, &cache_directory()?)
}

/// An image that holds nothing but `files` (path below the root, content).
pub(crate) fn of_files(
    name: &str,
    models: &[&str],
    architecture: Architecture,
    files: &[(&str, &[u8])],
) -> Result<Built> {
    archive(&Description { name, models, architecture }, vec![layer_of(files)?], &cache_directory()?)
}

/// A layer of these files.
fn layer_of(files: &[(&str, &[u8])]) -> Result<Layer> {
    let mut key = Key::new("derived layer");
    for (path, content) in files {
        key.add(path.as_bytes());
        key.add(content);
    }
    let stem = key.stem(&cache_directory()?, "derived");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }
    let tree = Scratch::new(&stem)?;
    for (path, content) in files {
        let path = tree.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().context("a file needs a directory")?)?;
        fs::write(&path, content)?;
    }
    Layer::from_tree(tree.path(), &stem)
}

fn archive(description: &Description<'_>, layers: Vec<Layer>, cache: &Path) -> Result<Built> {
    let mut key = Key::new("archive");
    key.add(description.name.as_bytes());
    key.add(description.architecture.to_string().as_bytes());
    description.models.iter().for_each(|model| key.add(model.as_bytes()));
    for layer in &layers {
        key.add(layer.digest.as_bytes());
    }
    let stem = key.stem(cache, &description.name.replace(['/', ':'], "-"));
    let archive = stem.with_extension("oci.tar");
    if !archive.exists() {
        oci::write_archive(description, &layers, &archive)?;
    }
    let models = description.models.iter().map(|model| (*model).to_owned()).collect();
    Ok(Built { archive, name: description.name.to_owned(), models, architecture: description.architecture, layers })
}

/// Lists of what a recipe wants systemd not to run, and where a link to /dev/null says so (systemd.unit(5),
/// systemd.generator(7)).
const MASKED: [(&str, &str); 2] =
    [("masked-units", "etc/systemd/system"), ("masked-generators", "etc/systemd/system-generators")];

/// The layer that a recipe adds to its packages: the `files/` of all its kind and its own, a link to /dev/null for each
/// masked unit, and what U-Boot loads.
fn recipe_layer(recipe: Recipe, common: &Path, source: &Path, cache: &Path) -> Result<Layer> {
    let files: Vec<_> =
        [common, source].map(|of| of.join("files")).into_iter().filter(|files| files.exists()).collect();
    let masked = MASKED.map(|(list, directory)| (fs::read_to_string(common.join(list)).unwrap_or_default(), directory));
    let script = fs::read_to_string(common.with_file_name("uboot").join(UBOOT_SOURCE))
        .context("cannot read the second stage of boards with U-Boot")?;
    let boards: Vec<_> = recipe.models().filter(|model| model.bootloader == Bootloader::UBoot).collect();
    let mut key = Key::new("recipe layer 2");
    files.iter().try_for_each(|files| key.add_tree(files))?;
    masked.iter().for_each(|(list, _)| key.add(list.as_bytes()));
    key.add(&boot::uboot::script_image(&script));
    boards.iter().for_each(|model| key.add(format!("{model:?}").as_bytes()));
    let stem = key.stem(cache, "recipe");
    if let Some(layer) = Layer::cached(&stem) {
        return Ok(layer);
    }
    let tree = Scratch::new(&stem)?;
    for files in &files {
        run(Command::new("cp").arg("-a").arg(files.join(".")).arg(tree.path()))?;
    }
    // Whatever the umask of who cloned the repository was.
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(tree.path()))?;
    for (list, directory) in &masked {
        let directory = tree.path().join(directory);
        for name in lines_of(list) {
            fs::create_dir_all(&directory)?;
            symlink("/dev/null", directory.join(name)).with_context(|| format!("cannot mask {name}"))?;
        }
    }
    for model in boards {
        board_files(model, recipe.family(), &script, tree.path())?;
    }
    Layer::from_tree(tree.path(), &stem)
}

/// The second stage as people read and change it.
const UBOOT_SOURCE: &str = "start.uboot.txt";

/// `/boot/<model>` of a board with U-Boot. The script that it runs is made of the text beside it here and nowhere else.
fn board_files(model: &Model, family: Family, script: &str, tree: &Path) -> Result<()> {
    let directory = tree.join("boot").join(model.name);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(UBOOT_SOURCE), script)?;
    fs::write(directory.join(model.second_stage()), boot::uboot::script_image(script))?;
    let (kernel, initrd) = match family {
        Family::Debian => ("/vmlinuz", "/initrd.img"),
        Family::Tiny => ("../kernel", "../initrd"),
    };
    symlink(kernel, directory.join("kernel"))?;
    symlink(initrd, directory.join("initrd"))?;
    if let Some(dtb) = model.dtb {
        symlink(format!("../dtbs/{dtb}"), directory.join("dtb"))?;
    }
    fs::write(directory.join("bootargs"), format!("console={}\n", model.console))?;
    Ok(())
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
