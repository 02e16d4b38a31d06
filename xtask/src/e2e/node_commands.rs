//! What people do on a node with `walt node`, driven by the command alone.

pub(super) mod copying;
pub(super) mod saving;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::machine::Spec;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:c0:de:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc", MAC), TINY_BOOT)?;
    let node = booted.node.name.clone();
    commands(stage, &node)?;
    shell(stage, &node)?;
    copying::both_ways(stage, &node)?;
    copying::hostile(stage, &node)?;
    reached(stage, &node)?;
    saving::saved_and_booted(stage, &node, MAC)?;
    ownership(stage, &node)
}

/// Runs `walt` with these arguments, whatever its exit code.
pub(super) fn walt(stage: &mut Stage<'_>, arguments: &[&str]) -> Result<Output> {
    let mut command = stage.daemon()?.command("walt");
    command.args(arguments).stdin(Stdio::null()).output().context("cannot run walt")
}

/// What was printed, and the exit code, in one line.
pub(super) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    format!("{} | {} | {:?}", text(&output.stdout), text(&output.stderr), output.status.code())
}

/// `walt node run`: output, exit codes, standard input, a time limit that ends the command.
pub(super) fn commands(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let output = walt(stage, &["node", "run", node, "echo out; echo err >&2; exit 42"])?;
    let is_so = output.stdout == b"out\n" && output.stderr == b"err\n" && output.status.code() == Some(42);
    stage.check("a command's output, errors and exit code are its own", is_so, told(&output))?;

    let mut command = stage.daemon()?.command("walt");
    let mut child =
        command.args(["node", "run", node, "md5sum"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, &[b'x'; 1_000_000])?;
    let output = child.wait_with_output()?;
    // Of `head -c 1000000 /dev/zero | tr '\0' x | md5sum`.
    let is_so = output.stdout == b"ec78dbd963d2fc01e51176ed4dec299e  -\n";
    stage.check("a megabyte of standard input reaches it", is_so, told(&output))?;

    let begun = Instant::now();
    let output = walt(stage, &["node", "run", "--timeout", "2", node, "sleep 1234; true"])?;
    let is_so = output.status.code() == Some(124) && begun.elapsed() < Duration::from_secs(20);
    stage.check("a time limit ends it here", is_so, told(&output))?;
    let begun = Instant::now();
    let gone = loop {
        let output = walt(stage, &["node", "run", node, "ps | grep -c '[s]leep 1234'"])?;
        if output.stdout == b"0\n" || begun.elapsed() > Duration::from_secs(20) {
            break output;
        }
    };
    stage.check("and on the node", gone.stdout == b"0\n", told(&gone))?;

    let nobody = walt(stage, &["node", "run", "node-nobody", "true"])?;
    stage.check("a node that is not there is named", !nobody.status.success(), told(&nobody))
}

/// `walt node shell` on a pseudo-terminal: its size, keys, and the exit code.
pub(super) fn shell(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    const SCRIPT: &str = include_str!("node_commands/terminal.py");
    let script = stage.lab.write("terminal.py", SCRIPT)?;
    let mut command = std::process::Command::new("python3");
    let walt = stage.daemon()?.command("walt").get_program().to_owned();
    let output = command.arg(script).arg(walt).args(["node", "shell", node]).output().context("python3 is needed")?;
    stage.check(
        "a shell has a terminal: size, new size, Ctrl-C and its exit code",
        output.status.success(),
        told(&output),
    )
}

/// `walt node ping` and `expose`.
pub(super) fn reached(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let output = walt(stage, &["node", "ping", "-c", "1", node])?;
    stage.check("it answers a ping", output.status.success(), told(&output))?;
    let mut command = stage.daemon()?.command("walt");
    let mut child = command.args(["node", "expose", node, "22", "0"]).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let greeting = (|| -> Result<String> {
        let address = line.split_whitespace().next().context("no address")?;
        let mut greetings = Vec::new();
        // Several at a time, each with its own connection to the node; dropbear takes up to four that have not logged in.
        let streams = (0..3).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>, _>>()?;
        for mut stream in streams {
            let mut bytes = [0; 7];
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.read_exact(&mut bytes)?;
            greetings.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(greetings.join(" "))
    })();
    let _ = child.kill();
    let _ = child.wait();
    let greeting = greeting.with_context(|| line.clone())?;
    stage.check("its port is reached by one here", greeting.matches("SSH-2.0").count() == 3, line)
}

/// `walt node acquire`, `release` and `show`. The node reboots at the end.
fn ownership(stage: &mut Stage<'_>, node: &str) -> Result<()> {
    let output = walt(stage, &["node", "show", "--names-only"])?;
    stage.check("a node with my image is mine", output.stdout == format!("{node}\n").as_bytes(), told(&output))?;
    let output = walt(stage, &["node", "release", node])?;
    stage.check("it is released", output.status.success(), told(&output))?;
    let output = walt(stage, &["node", "show"])?;
    let hint = String::from_utf8_lossy(&output.stdout).contains("walt node acquire");
    stage.check("then I have none, and am told how to get one", hint, told(&output))?;
    let output = walt(stage, &["node", "show", "--all"])?;
    stage.check("it is free", String::from_utf8_lossy(&output.stdout).starts_with("free:"), told(&output))?;
    let output = walt(stage, &["node", "acquire", "free-nodes"])?;
    let shown = stage.daemon()?.walt(&["node", "show", node, "--json"])?;
    let is_mine = output.status.success() && shown.contains("docker.io/root/pc-x86-64-default:latest");
    stage.check("and mine again when I take it", is_mine, told(&output))?;
    let Some(line) =
        stage.daemon()?.walt(&["node", "show"])?.lines().find(|line| line.starts_with(node)).map(str::to_owned)
    else {
        bail!("the table lacks {node}")
    };
    stage.check("as the table says", line.contains("root/pc-x86-64-default"), line)
}
