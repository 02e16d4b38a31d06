//! `x check`: what a machine can say about the code without running it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use boot::Architecture;
use testbed::process::{self, run_shown};

use crate::programs::cargo;
use crate::{agents, man};

/// Runs all checks; the first that fails ends it.
pub(crate) fn run() -> Result<ExitCode> {
    for (what, command) in commands() {
        println!("check: {what}");
        run_shown(&mut { command })?;
    }
    println!("check: {} man pages", man::check(&man::build()?)?);
    agents_are_small_and_run_anywhere()?;
    Ok(ExitCode::SUCCESS)
}

fn commands() -> Vec<(&'static str, Command)> {
    let with = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments);
        command
    };
    let mut documentation = with(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    // Private items are documented too, so a link to one leads somewhere.
    documentation.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    vec![
        ("formatting", with(&["fmt", "--all", "--check"])),
        ("lints", with(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("documentation", documentation),
    ]
}

/// The agent is copied into the memory of every node and must run in any image.
fn agents_are_small_and_run_anywhere() -> Result<()> {
    const MOST: usize = 2_000_000;
    for outcome in agents::build_all()? {
        let architecture = outcome.architecture;
        let path = match outcome.result {
            Ok((path, _)) => path,
            Err(error) => {
                println!("check: no agent for {architecture} here: {error:#}");
                continue;
            }
        };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        println!("check: the agent for {architecture} has {} bytes", bytes.len());
        ensure!(bytes.len() < MOST, "the agent for {architecture} has {} bytes, more than {MOST}", bytes.len());
        let is_static = is_static(&bytes).with_context(|| format!("{path:?} is no ELF file"))?;
        ensure!(is_static, "the agent for {architecture} is not static");
        // Not on the processor of this machine, but on the least of those that it is for.
        let (emulator, processor) = least_processor(architecture);
        process::run(Command::new(emulator).args(["-cpu", processor]).arg(&path).arg("walt-version"))
            .with_context(|| format!("the agent for {architecture} does not run on an {processor}"))?;
    }
    Ok(())
}

/// The emulator for an architecture (Debian's package qemu-user-static), and its name for a processor that has no more than
/// what makes the architecture: the ARM1176 is that of a Raspberry Pi B, the Cortex-A7 and A53 are those of the 2 and 3.
fn least_processor(architecture: Architecture) -> (&'static str, &'static str) {
    match architecture {
        Architecture::X86_64 => ("qemu-x86_64-static", "qemu64"),
        Architecture::X86 => ("qemu-i386-static", "qemu32"),
        Architecture::Armv6 => ("qemu-arm-static", "arm1176"),
        Architecture::Armv7 => ("qemu-arm-static", "cortex-a7"),
        Architecture::Aarch64 => ("qemu-aarch64-static", "cortex-a53"),
    }
}

/// Whether no program header of an ELF file asks for a dynamic linker (elf(5), `PT_INTERP`); `None` if it is none.
fn is_static(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: usize = 3;
    let word = |at: usize, length: usize| -> Option<usize> {
        Some(bytes.get(at..at + length)?.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    // Elf64_Ehdr and Elf32_Ehdr: offset of the table, size of an entry, number of entries.
    let (table, size, count) = match bytes.get(..5)? {
        b"\x7fELF\x02" => (word(32, 8)?, word(54, 2)?, word(56, 2)?),
        b"\x7fELF\x01" => (word(28, 4)?, word(42, 2)?, word(44, 2)?),
        _ => return None,
    };
    (0..count).try_fold(true, |so_far, header| Some(so_far && word(table + header * size, 4)? != PT_INTERP))
}
