//! `x bench pull`: from a registry on loopback to "a node could boot".
//!
//! Ours pulls the layers, adds the server's own and builds the index: what is then there is served as it is. Without us
//! one copies the image (`skopeo copy`) and unpacks it (`umoci unpack`), for a server to serve the tree. Both start from
//! nothing each time.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use boot::Architecture;
use testbed::lab::{Entered, Lab, enter};
use testbed::peers::Registry;
use testbed::process::{run as run_program, run_shown};

use super::{Figure, Promise, Round, report, runs};
use crate::agents;
use crate::image::{Recipe, build};
use crate::programs::cargo;

pub(super) fn run(options: &[&str]) -> Result<ExitCode> {
    let runs = runs(options, 3)?;
    let agents = agents::built(&[Architecture::X86_64])?;
    let agent = agents.join("x86_64/walt-node");
    let image = build(Recipe::DebianPc, &agents)?;
    if !testbed::lab::inside() {
        run_shown(cargo().args(["build", "--quiet", "--release", "--package", "walt-image", "--example", "pull"]))?;
    }
    let lab = match enter("bench-pull", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let registry = Registry::start(&lab)?;
    let reference = registry.push(&image.archive, &image.name)?;
    let mut rounds = Vec::new();
    for run in 0..=runs {
        let round = Round { ours: pull(&lab, &reference, &agent)?, peer: copy_and_unpack(&lab, &reference)? };
        println!(
            "run {run}: ours {:.2} s, skopeo + umoci {:.2} s, ratio {:.2}{}",
            round.ours,
            round.peer,
            round.ours / round.peer,
            if run == 0 { " (not counted)" } else { "" }
        );
        if run > 0 {
            rounds.push(round);
        }
    }
    let what = "seconds from registry to bootable".to_owned();
    report("pull", "skopeo+umoci", &[Figure { what, rounds, promise: Promise::AtMost(0.4) }])
}

fn pull(lab: &Lab, reference: &str, agent: &Path) -> Result<f64> {
    let root = lab.state().join("pulled");
    let mut command = Command::new(crate::target_directory().join("release/examples/pull"));
    command.arg(reference).arg("--insecure").arg("--root").arg(&root).arg("--agent").arg(agent);
    timed(&mut [command], &[&root])
}

fn copy_and_unpack(lab: &Lab, reference: &str) -> Result<f64> {
    let layout = lab.state().join("layout");
    let bundle = lab.state().join("bundle");
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"])
        .arg(format!("docker://{reference}"))
        .arg(format!("oci:{}:image", layout.display()));
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image"]).arg(format!("{}:image", layout.display())).arg(&bundle);
    timed(&mut [copy, unpack], &[&layout, &bundle])
}

/// Seconds that the commands take one after the other; what they made is then removed.
fn timed(commands: &mut [Command], made: &[&Path]) -> Result<f64> {
    // What the other side left to be written is not this one's to wait for.
    run_program(&mut Command::new("sync"))?;
    let start = Instant::now();
    for command in commands {
        run_program(command)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    for directory in made {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {directory:?}"))?;
    }
    Ok(seconds)
}
