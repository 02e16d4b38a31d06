//! `x check`: what a machine can say about the code without running it.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use testbed::process::run_shown;

use crate::programs::{agent, cargo};

/// Runs all checks; the first that fails ends it.
pub(crate) fn run() -> Result<ExitCode> {
    for (what, command) in commands() {
        println!("check: {what}");
        run_shown(&mut { command })?;
    }
    agent_is_small_and_static()?;
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
fn agent_is_small_and_static() -> Result<()> {
    const MOST: usize = 2_000_000;
    /// `PT_INTERP` (elf(5)): the program header of a program that wants a dynamic linker.
    const PT_INTERP: u32 = 3;
    let path = agent()?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
    println!("check: the agent has {} bytes", bytes.len());
    ensure!(bytes.len() < MOST, "the agent has {} bytes, more than {MOST}", bytes.len());
    // Elf64_Ehdr: the table's offset at 32, size of an entry at 54, number of entries at 56.
    let word = |at: usize, length: usize| -> Result<usize> {
        let field = bytes.get(at..at + length).context("the agent is no ELF file")?;
        Ok(field.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    for header in 0..count {
        ensure!(word(table + header * size, 4)? != PT_INTERP as usize, "the agent is not static");
    }
    Ok(())
}
