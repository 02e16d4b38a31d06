//! What our server exports, as skopeo copies it, against the image as it came.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::peers::Registry;
use testbed::process::run as run_program;

use super::super::stage::Stage;
use super::tree::sha256;

pub(super) fn compare(stage: &mut Stage<'_>, reference: &str) -> Result<()> {
    let (host, state) = (Registry::HOST, stage.lab.state());
    let configuration = inspect(&["--config", "--raw"], &format!("docker://{reference}"))?;
    let blobs = state.join("registry/docker/registry/v2/blobs/sha256");
    let in_registry = |digest: &str| blobs.join(digest.get(..2).unwrap_or_default()).join(digest).join("data");
    let directory = state.join("exported");
    let in_directory = |digest: &str| directory.join(digest);

    for (format, transport, copy) in [
        ("oci", "oci-archive", format!("docker://{host}/walt/exported:1")),
        ("docker", "docker-archive", format!("dir:{}", directory.display())),
    ] {
        let archive = state.join(format!("{transport}.tar"));
        let path = archive.display().to_string();
        stage.daemon()?.walt(&["image", "export", "--format", format, reference, &path])?;
        let from = format!("{transport}:{path}");
        // Nothing is to be compressed or converted on the way: what arrives is what we wrote.
        let options = ["copy", "--quiet", "--insecure-policy", "--preserve-digests", "--dest-tls-verify=false"];
        run_program(Command::new("skopeo").args(options).args([&from, &copy]))?;
        std::fs::remove_file(&archive)?;
        let blob: &dyn Fn(&str) -> PathBuf = if format == "oci" { &in_registry } else { &in_directory };
        let seen = inspect(&["--config", "--raw"], &copy)?;
        let layers = verify_layers(&seen, &inspect(&["--raw"], &copy)?, blob)?;
        let what = format!(
            "skopeo copies our {transport}: the pulled configuration, byte by byte, and its {layers} layers' tars"
        );
        let differs = if seen == configuration { "" } else { &seen };
        stage.check(&what, seen == configuration, differs)?;
    }
    Ok(())
}

fn inspect(options: &[&str], reference: &str) -> Result<String> {
    let mut skopeo = Command::new("skopeo");
    skopeo.arg("--insecure-policy").arg("inspect").args(options);
    if reference.starts_with("docker:") {
        skopeo.arg("--tls-verify=false");
    }
    run_program(skopeo.arg(reference))
}

/// Whether each layer of the copy unpacks to the tar that the configuration names; gives their number.
fn verify_layers(configuration: &str, manifest: &str, blob: &dyn Fn(&str) -> PathBuf) -> Result<usize> {
    let [configuration, manifest] = [configuration, manifest].map(serde_json::from_str::<Value>);
    let (configuration, manifest) = (configuration?, manifest?);
    let diff_ids = configuration["rootfs"]["diff_ids"].as_array().context("a configuration without layers")?;
    let layers = manifest["layers"].as_array().context("a manifest without layers")?;
    ensure!(layers.len() == diff_ids.len(), "{} layers instead of {}", layers.len(), diff_ids.len());
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let digest = layer["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        let tar = tar_digest(&blob(digest.context("a layer without a digest")?))?;
        ensure!(diff_id.as_str() == Some(&format!("sha256:{tar}")), "{tar} instead of the layer {diff_id}");
    }
    Ok(layers.len())
}

/// SHA-256 of a layer's tar, compressed by gzip or not.
fn tar_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {path:?}"))?;
    let mut magic = [0; 2];
    file.read_exact(&mut magic)?;
    file.rewind()?;
    // RFC 1952 §2.3.1.
    if magic != [0x1f, 0x8b] {
        return sha256(&mut file);
    }
    let mut gzip = Command::new("gzip").arg("-dc").stdin(file).stdout(Stdio::piped()).spawn()?;
    let digest = sha256(&mut gzip.stdout.take().context("gzip has no output")?)?;
    ensure!(gzip.wait()?.success(), "{path:?} is no whole gzip file");
    Ok(digest)
}
