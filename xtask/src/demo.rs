//! `x demo`: a virtual node is powered on and gets its operating system, before your eyes.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot::Architecture;
use testbed::daemon::Daemon;
use testbed::lab::{Entered, Lab, SERVER, enter};
use testbed::machine::kvm_works;
use testbed::peers::Registry;
use testbed::process::{Background, Follow};

use crate::image::{self, Recipe};
use crate::programs::{Profile, build};

/// The virtual node.
const NODE: &str = "demo";

/// The longest that one boot may take: an emulated machine, with other work on the same processors.
const BOOT: Duration = Duration::from_secs(600);

pub(crate) fn run() -> Result<ExitCode> {
    say("building the server, the command line and the agent");
    let programs = build(Profile::Test, &[Architecture::X86_64])?;
    say("building the Debian image");
    let image = image::build(Recipe::DebianPc, &programs.agents)?;
    let lab = match enter("demo", &crate::lab_directory())? {
        Entered::Outside(code) => return Ok(code),
        Entered::Inside(lab) => lab,
    };

    say("starting a registry, and pushing the image to it");
    let registry = Registry::start(&lab)?;
    let reference = registry.push(&image.archive, &image.name)?;
    say(&format!("starting walt-server-daemon: it serves nodes on a bridge of its own, as {SERVER}"));
    let mut daemon = Daemon::start(
        &lab,
        &programs,
        &format!(
            "[registries]\ninsecure = [{:?}]\n[images]\ndefault.pc-x86-64 = {reference:?}\n\
             [virtual_nodes]\naccelerator = {:?}\n",
            Registry::HOST,
            if kvm_works() { "kvm" } else { "tcg" }
        ),
    )?;
    let shown = show(&lab, &mut daemon);
    if shown.is_err() {
        eprintln!("--- the daemon's log ends with\n{}", daemon.log_tail(60));
    }
    shown.map(|()| ExitCode::SUCCESS)
}

fn show(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    say(&format!(
        "walt node create {NODE}: a virtual node is a PC with the firmware of a PC; nothing is installed on it"
    ));
    let switched_on = Instant::now();
    print!("{}", daemon.walt(&["node", "create", NODE])?);
    let (_console, mut shown) = watch_console(lab, daemon)?;
    let node = watch_until_booted(&mut shown, daemon, None)?;
    say(&format!("{} is booted, {:.0} s after power-on", node.name, switched_on.elapsed().as_secs_f64()));
    print!("{}", daemon.walt(&["node", "show", "--all"])?);

    let ssh = daemon.ssh(&node)?;
    say(&format!("ssh root@{} 'uname -a; findmnt /'", ssh.address()));
    let answer = ssh.run("uname -a; findmnt /")?;
    print!("{answer}");
    if !(answer.contains("GNU/Linux") && answer.contains("overlay")) {
        bail!("this is not the shell that was expected");
    }
    say(&format!("what happened when: walt node trace {}", node.name));
    print!("{}", daemon.walt(&["node", "trace", &node.name])?);

    let before = ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    say(&format!("walt node reboot {}", node.name));
    let start = Instant::now();
    print!("{}", daemon.walt(&["node", "reboot", &node.name])?);
    let node = watch_until_booted(&mut shown, daemon, Some(&before))?;
    say(&format!("{} is back, {:.0} s later", node.name, start.elapsed().as_secs_f64()));
    print!("{}", daemon.ssh(&node)?.run("uname -a; findmnt /")?);
    say("that was all: machine, server, registry and network vanish now");
    Ok(())
}

/// `walt node console`, and the file that it writes to.
fn watch_console(lab: &Lab, daemon: &Daemon) -> Result<(Background, Follow)> {
    let log = lab.logs().join("console");
    let mut command = daemon.command("walt");
    let console = Background::start("walt node console", command.args(["node", "console", NODE]), &log)?;
    Ok((console, Follow::new(&log)))
}

/// Shows the console until the server says that the node is booted, with another boot id of Linux than `before`.
fn watch_until_booted(console: &mut Follow, daemon: &mut Daemon, before: Option<&str>) -> Result<api::Node> {
    let start = Instant::now();
    loop {
        print!("{}", console.new_text());
        std::io::stdout().flush().context("the terminal is gone")?;
        daemon.check()?;
        let node = daemon.nodes()?.into_iter().find(|node| node.name == NODE);
        if let Some(node) = node
            && node.state == api::NodeState::Booted
        {
            let boot = daemon.ssh(&node)?.run("cat /proc/sys/kernel/random/boot_id").ok();
            if boot.is_some_and(|boot| before != Some(boot.as_str())) {
                println!("{}", console.new_text());
                return Ok(node);
            }
        }
        if start.elapsed() > BOOT {
            bail!("the node is not booted after {BOOT:?}");
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Says what comes next, so that it stands out of the console.
fn say(what: &str) {
    if !testbed::lab::inside() || !what.starts_with("building") {
        println!("\n=== {what}");
    }
}
