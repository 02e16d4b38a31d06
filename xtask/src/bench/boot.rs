//! `x bench boot`: power-on to ssh-ready of one PC and one image, with our server and with dnsmasq + nfs-ganesha.

mod peers;

use std::process::ExitCode;

use anyhow::Result;
use testbed::lab::{Entered, Lab, enter};

use crate::image::{Recipe, build};
use crate::programs::Profile;

pub(super) fn run(_options: &[&str]) -> Result<ExitCode> {
    let programs = crate::programs::build(Profile::Release)?;
    let image = build(Recipe::DebianPc, &programs.agent)?;
    let lab: Lab = match enter("bench-boot", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let mut site = peers::Site::prepare(&lab, &image)?;
    let seconds = site.boot(&lab)?;
    println!("dnsmasq + nfs-ganesha: {seconds:.1} s from power-on to ssh");
    Ok(ExitCode::SUCCESS)
}
