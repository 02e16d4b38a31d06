//! The whole Debian image, object by object, against what umoci unpacks; and its exports, as skopeo copies them.

mod exported;
mod nfs;
mod served;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::host::Host;
use testbed::process::run as run_program;

use super::stage::Stage;
use crate::image::Recipe;
use served::Server;
use tree::{Tree, differences};

const MAC: &str = "52:54:00:7e:ee:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::DebianPc)?;
    // umoci takes one processor while the registry and our server take the other.
    let (archive, directory) = (image.archive.clone(), stage.lab.state().join("reference"));
    let unpacking = thread::spawn(move || {
        let rootfs = unpack(&archive, &directory)?;
        anyhow::Ok((Tree::of_directory(&rootfs)?, rootfs))
    });

    let pushed = stage.push(&image)?;
    stage.start_daemon(&pushed, "")?;
    let host = Host::plug_in(stage.lab, "client", MAC)?;
    host.lease("walt.node.pc-x86-64")?;
    let minutes = Duration::from_secs(180);
    let node = stage.wait_for_node(MAC, "ready", minutes, |node| node.registration == api::Registration::Ready)?;
    stage.check("a lease makes a node, and our server has its image from the registry", true, &node.name)?;

    let mount = stage.daemon()?.state().join("nodes").join(&node.ip).join("fs");
    let mounted = Tree::of_directory(&mount)?;
    let (reference, rootfs) = unpacking.join().ok().context("unpacking panicked")??;
    let server = Server {
        state: stage.daemon()?.state().to_owned(),
        agent: stage.programs().agents.join("x86_64/walt-node"),
        image_id: node.image_id.context("a node that is ready has no image id")?,
    };
    let expected = server.adds_to(&reference, &rootfs, &mount)?;
    let what = format!("beyond umoci's {} objects there are those of the server's layer", reference.0.len());
    stage.check(&what, !expected.added.is_empty(), expected.added.join(" "))?;

    compare_mount(stage, &expected.tree, &mounted)?;
    nfs::compare(stage, &expected.tree, &host)?;
    exported::compare(stage, &pushed)
}

/// The image's tree by other people's tools: skopeo makes a layout of it, umoci unpacks that as root.
fn unpack(archive: &Path, directory: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let (layout, bundle) = (directory.join("layout"), directory.join("bundle"));
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy"]).arg(format!("oci-archive:{}", archive.display()));
    run_program(copy.arg(format!("oci:{}:image", layout.display())))?;
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image"]).arg(format!("{}:image", layout.display())).arg(&bundle);
    run_program(&mut unpack)?;
    Ok(bundle.join("rootfs"))
}

fn compare_mount(stage: &mut Stage<'_>, expected: &Tree, seen: &Tree) -> Result<()> {
    let xattrs: usize = expected.0.values().map(|object| object.xattrs.len()).sum();
    let what = format!(
        "our mount shows {} objects with umoci's kind, mode, owner, size, time in nanoseconds, links, device numbers, \
         link target, content and extended attributes ({xattrs})",
        seen.0.len()
    );
    let differences = differences(expected, seen);
    stage.check(&what, differences.is_empty(), differences)
}
