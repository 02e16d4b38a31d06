//! `x bench boot`: power-on to ssh-ready of one PC and one image, with our server and with dnsmasq + nfs-ganesha.

mod ours;
mod peers;

use std::process::ExitCode;

use anyhow::Result;
use boot::Architecture;
use testbed::lab::{Entered, enter};

use super::{Figure, Promise, Round, report, runs};
use crate::image::{Recipe, build};
use crate::programs::{self, Profile};

pub(super) fn run(options: &[&str]) -> Result<ExitCode> {
    let runs = runs(options, 3)?;
    let programs = programs::build(Profile::Release, &[Architecture::X86_64])?;
    let image = build(Recipe::DebianPc, &programs.agents)?;
    let lab = match enter("bench-boot", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };
    let unpacked = peers::Site::unpack(&lab, &image)?;
    let registry = ours::push(&lab, &image)?;
    let mut rounds = Vec::new();
    // Each after the other, so that what else the machine does meets both. Once for nothing: it fills the caches.
    for run in 0..=runs {
        let (mine, steps) = ours::boot(&lab, &programs, &registry, run)?;
        let theirs = unpacked.boot(&lab, run)?;
        println!(
            "run {run}: ours {mine:.1} s, dnsmasq + nfs-ganesha {theirs:.1} s{}",
            if run == 0 { " (not counted)" } else { "" }
        );
        if run > 0 {
            rounds.push(Round { ours: mine, peer: theirs });
        } else {
            println!("{steps}");
        }
    }
    let what = "seconds from power-on to ssh".to_owned();
    report("boot", "peers", &[Figure { what, rounds, promise: Promise::AtMost(0.75) }])
}
