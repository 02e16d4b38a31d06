//! `x bench pull`: from a registry on loopback to "a node could boot".
//!
//! Ours pulls the layers and builds the index. Without us one copies the image (`skopeo copy`) and unpacks it
//! (`umoci unpack`), for a server to serve the tree. Both start from nothing each time.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use testbed::lab::{Entered, Lab, enter};
use testbed::peers::Registry;
use testbed::process::{run as run_program, run_shown};

use super::{Figure, Promise, median, report, runs};
use crate::image::{Recipe, build};
use crate::programs::{agent, cargo};

pub(super) fn run(options: &[&str]) -> Result<ExitCode> {
    let runs = runs(options, 5)?;
    let image = build(Recipe::DebianPc, &agent()?)?;
    if !testbed::lab::inside() {
        run_shown(cargo().args(["build", "--quiet", "--release", "--package", "walt-image", "--example", "pull"]))?;
    }
    let lab = match enter("bench-pull", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let registry = Registry::start(&lab)?;
    let reference = registry.push(&image.archive, &image.name)?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let mine = pull(&lab, &reference)?;
        let theirs = copy_and_unpack(&lab, &reference)?;
        println!(
            "run {run}: ours {mine:.2} s, skopeo + umoci {theirs:.2} s{}",
            if run == 0 { " (not counted)" } else { "" }
        );
        if run > 0 {
            ours.push(mine);
            peers.push(theirs);
        }
    }
    let what = "seconds from registry to bootable, median".to_owned();
    let figure = Figure { what, ours: median(&ours), peer: median(&peers), promise: Promise::AtMost(0.4) };
    report("pull", "skopeo+umoci", &[figure], &json!({"ours": ours, "skopeo + umoci": peers}))
}

fn pull(lab: &Lab, reference: &str) -> Result<f64> {
    let root = lab.state().join("pulled");
    let start = Instant::now();
    let mut command = Command::new(crate::target_directory().join("release/examples/pull"));
    run_program(command.arg(reference).arg("--insecure").arg("--root").arg(&root))?;
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {root:?}"))?;
    Ok(seconds)
}

fn copy_and_unpack(lab: &Lab, reference: &str) -> Result<f64> {
    let layout = lab.state().join("layout");
    let bundle = lab.state().join("bundle");
    let start = Instant::now();
    run_program(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
            .arg(format!("docker://{reference}"))
            .arg(format!("oci:{}:image", layout.display())),
    )?;
    run_program(
        Command::new("umoci").args(["unpack", "--image"]).arg(format!("{}:image", layout.display())).arg(&bundle),
    )?;
    let seconds = start.elapsed().as_secs_f64();
    for directory in [layout, bundle] {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {directory:?}"))?;
    }
    Ok(seconds)
}
