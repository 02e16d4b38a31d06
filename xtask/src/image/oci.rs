//! Writes OCI images: trees to layers, layers to an archive that any registry client reads.
//!
//! Deterministic: the same tree gives the same digests, so that a registry and the node's cache know it again.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use boot::Architecture;
use serde_json::json;
use sha2::{Digest, Sha256};
use testbed::process::run;

/// The time stamp of everything the lab puts into an image (seconds since 1970): content decides, not the day it was built.
pub(super) const EPOCH: &str = "1700000000";

/// One layer in the lab's cache: `<stem>.tar.gz` and, beside it, `<stem>.sums` with its two digests.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The compressed tar.
    pub blob: PathBuf,
    /// Lower-case hex of the SHA-256 of the compressed tar.
    pub digest: String,
    /// Lower-case hex of the SHA-256 of the tar itself.
    pub diff_id: String,
}

impl Layer {
    /// The layer kept at `stem`, if it is there.
    pub(super) fn cached(stem: &Path) -> Option<Self> {
        let sums = fs::read_to_string(stem.with_extension("sums")).ok()?;
        let (digest, diff_id) = sums.trim().split_once(' ')?;
        let blob = stem.with_extension("tar.gz");
        blob.exists().then(|| Self { blob, digest: digest.to_owned(), diff_id: diff_id.to_owned() })
    }

    /// Compresses `tar` into the cache at `stem` and removes it.
    pub(super) fn from_tar(tar: &Path, stem: &Path) -> Result<Self> {
        let diff_id = sha256_of_file(tar)?;
        let partial = stem.with_extension("partial");
        let out = File::create(&partial).with_context(|| format!("cannot create {partial:?}"))?;
        let status = Command::new("pigz").args(["-n", "-6", "-c"]).arg(tar).stdout(out).status();
        anyhow::ensure!(status.context("cannot start pigz")?.success(), "pigz failed on {tar:?}");
        fs::remove_file(tar)?;
        let digest = sha256_of_file(&partial)?;
        fs::rename(&partial, stem.with_extension("tar.gz"))?;
        // Last, for it is what says that the layer is whole.
        fs::write(stem.with_extension("sums"), format!("{digest} {diff_id}\n"))?;
        Self::cached(stem).context("the layer just written cannot be read")
    }

    /// Packs `tree` as a layer whose files belong to root.
    pub(super) fn from_tree(tree: &Path, stem: &Path) -> Result<Self> {
        let tar = stem.with_extension("tar");
        run(Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=posix"])
            .args(["--pax-option=delete=atime,delete=ctime", &format!("--mtime=@{EPOCH}"), "-C"])
            .arg(tree)
            .arg("-cf")
            .arg(&tar)
            .arg("."))?;
        Self::from_tar(&tar, stem)
    }
}

/// What the configuration of an image says beside its layers.
#[derive(Clone, Debug)]
pub(super) struct Description<'a> {
    /// The name it has in the archive and would like to have on a server, such as `walt/debian-pc:12`.
    pub name: &'a str,
    /// Values of the label `walt.node.models`.
    pub models: &'a [&'a str],
    /// What its programs run on.
    pub architecture: Architecture,
}

/// Writes `layers`, the lowest first, as an OCI archive to `archive`.
pub(super) fn write_archive(description: &Description<'_>, layers: &[Layer], archive: &Path) -> Result<()> {
    let work = archive.with_extension("work");
    let _ = fs::remove_dir_all(&work);
    let blobs = work.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot create {blobs:?}"))?;

    let mut descriptors = Vec::new();
    for layer in layers {
        let link = blobs.join(&layer.digest);
        if fs::hard_link(&layer.blob, &link).is_err() && !link.exists() {
            fs::copy(&layer.blob, &link)?;
        }
        descriptors.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{}", layer.digest),
            "size": fs::metadata(&layer.blob)?.len(),
        }));
    }
    let write_blob = |media_type: &str, value: serde_json::Value| -> Result<serde_json::Value> {
        let bytes = serde_json::to_vec(&value)?;
        let digest = hex(&Sha256::digest(&bytes));
        fs::write(blobs.join(&digest), &bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
    };
    let platform = platform(description.architecture);
    let mut configuration = json!({
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "Cmd": ["/sbin/init"],
            "Labels": {
                "walt.node.models": description.models.join(","),
                "walt.server.minversion": "4",
                "walt.image.preferred-name": description.name,
            },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|l| format!("sha256:{}", l.diff_id)).collect::<Vec<_>>(),
        },
    });
    for (name, value) in platform.as_object().into_iter().flatten() {
        configuration[name] = value.clone();
    }
    let config = write_blob("application/vnd.oci.image.config.v1+json", configuration)?;
    let mut manifest = write_blob(
        "application/vnd.oci.image.manifest.v1+json",
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": descriptors,
        }),
    )?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": description.name});
    manifest["platform"] = platform;
    fs::write(work.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    fs::write(work.join("index.json"), serde_json::to_vec(&index)?)?;

    let partial = archive.with_extension("partial");
    run(Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", &format!("--mtime=@{EPOCH}")])
        .args(["--hard-dereference", "-C"])
        .arg(&work)
        .arg("-cf")
        .arg(&partial)
        .args(["blobs", "index.json", "oci-layout"]))?;
    fs::remove_dir_all(&work)?;
    fs::rename(&partial, archive).with_context(|| format!("cannot rename {partial:?}"))
}

/// Linux on this architecture, as OCI's documents say it.
pub(super) fn platform(architecture: Architecture) -> serde_json::Value {
    let (name, variant) = architecture.oci_platform();
    let mut platform = json!({"architecture": name, "os": "linux"});
    if let Some(variant) = variant {
        platform["variant"] = json!(variant);
    }
    platform
}

/// Lower-case hex of the SHA-256 of a file's content.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {path:?}"))?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(|| format!("cannot read {path:?}"))?;
        if count == 0 {
            return Ok(hex(&sum.finalize()));
        }
        sum.update(&buffer[..count]);
    }
}

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
