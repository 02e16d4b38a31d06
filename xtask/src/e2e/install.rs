//! The Debian package on a fresh Debian: installed by apt, set up, used, removed, purged. The Debian has its own systemd and
//! network; nodes are hosts on the lab's bridge.

mod root;

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::host::Host;
use testbed::process::{Background, tail};

use super::stage::Stage;
use crate::container::{self, Container};
use crate::deb;
use crate::image::Recipe;
use crate::programs::Profile;

pub(super) const NAME: &str = "install";

/// Where the package is, inside.
const PACKAGE: &str = "/root/walt-server.deb";
/// How setup is called.
const SETUP: &[&str] = &["--interface", "eth1", "--network", "192.168.77.0/24", "--bridge", "--yes"];
/// For runs in which there is no DHCP server to be found.
const HURRY: &[&str] = &["--listen", "1"];
const UNIT: &str = "walt-server.service";
/// The node.
const MAC: &str = "52:54:00:10:77:01";

/// Builds the package and the Debian that it goes into.
pub(super) fn prepare() -> Result<()> {
    root::archive()?;
    deb::build(Profile::Test).map(drop)
}

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let root = container::unpack(stage.lab, &root::archive()?)?;
    fs::copy(deb::built_for_tests(), root.join(PACKAGE.trim_start_matches('/'))).context("there is no package")?;
    let image = stage.image(Recipe::TinyPc)?;
    fs::copy(&image.archive, root.join("root/tiny.oci.tar"))?;
    let debian = Container::boot(stage.lab, &root)?;
    installed(stage, &debian)?;
    conflicts(stage, &debian)?;
    asked(stage, &debian)?;
    set_up(stage, &debian)?;
    confined(stage, &debian)?;
    users(stage, &debian)?;
    images(stage, &debian)?;
    killed(stage, &debian)?;
    installed_again(stage, &debian)?;
    removed(stage, &debian)
}

/// All that it printed.
fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn installed(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let begun = Instant::now();
    let text = debian.run("apt-get", &["install", "-y", "-q", "--no-install-recommends", PACKAGE])?;
    stage.check("apt installs it, with what it depends on", true, format!("{:.0} s", begun.elapsed().as_secs_f64()))?;
    stage.check("it says what to do next", text.contains("Run walt-server-setup"), "")?;
    let state = debian.output("systemctl", &["is-enabled", UNIT])?;
    stage.check("nothing was started", said(&state).trim() == "disabled", said(&state))?;
    for (what, program, arguments, expected) in [
        ("the files are those of the package", "dpkg", &["--verify", "walt-server"][..], ""),
        ("there is a group for those who may use it", "getent", &["group", "walt"], "walt:"),
        ("there is a user for virtual machines", "getent", &["passwd", "walt-vm"], "nologin"),
        ("the command is there", "walt", &["--version"], "walt "),
        (
            "bash completes it",
            "bash",
            &["-c", "source /usr/share/bash-completion/completions/walt && complete -p walt"],
            "_walt",
        ),
        ("a PC's agent is there", "/usr/lib/walt/agent/x86_64/walt-node", &["walt-version"], ""),
    ] {
        let output = debian.output(program, arguments)?;
        let text = said(&output);
        let holds =
            output.status.success() && if expected.is_empty() { text.len() < 100 } else { text.contains(expected) };
        stage.check(what, holds, text.trim())?;
    }
    // Whoever starts it without having set it up is told, and systemd does not go on trying.
    let started = debian.output("systemctl", &["start", UNIT])?;
    let log = debian.run("journalctl", &["-u", UNIT, "-o", "cat"])?;
    let told = !started.status.success() && log.contains("walt-server-setup");
    stage.check(
        "started without an interface it says who asks for one",
        told,
        log.lines().find(|l| l.contains("no interface")).unwrap_or(&log),
    )?;
    let restarts = debian.run("systemctl", &["show", "-P", "NRestarts", UNIT])?;
    stage.check("and is not started again and again", restarts.trim() == "0", restarts)
}

/// What setup says is in the way; all it says if nothing is.
fn in_the_way(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("IN THE WAY: ")).collect();
    if lines.is_empty() { text.to_owned() } else { lines.join("; ") }
}

/// What would be in the way is named, with what helps, and nothing is changed.
fn conflicts(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let setup = |more: &[&str]| -> Result<(bool, String)> {
        let output = debian.output("walt-server-setup", &[SETUP, more].concat())?;
        Ok((output.status.success(), said(&output)))
    };
    debian.run("systemctl", &["start", "dnsmasq"])?;
    let (ok, text) = setup(HURRY)?;
    let told = !ok && text.contains("dnsmasq (process ") && text.contains("udp port 53");
    stage.check("setup names the program that has a port", told, in_the_way(&text))?;
    let advice = text.lines().find_map(|line| line.trim().strip_prefix("stop it: ")).context("there is no advice")?;
    let expected = advice == "systemctl disable --now dnsmasq.service";
    stage.check("and the command that stops it", expected, advice)?;
    let words: Vec<&str> = advice.split(' ').collect();
    debian.run(words[0], &words[1..])?;

    let other = Host::plug_in(stage.lab, "otherdhcp", "52:54:00:10:77:99")?;
    other.take_address("192.168.77.9".parse()?)?;
    let mut dnsmasq = other.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--log-facility=-",
        "--port=0",
        "--pid-file=",
        "--user=root",
        "--conf-file=/dev/null",
    ]);
    dnsmasq.args(["--interface=eth0", "--dhcp-range=192.168.77.100,192.168.77.120", "--dhcp-authoritative"]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", stage.lab.state().join("other.leases").display()));
    let log = stage.lab.logs().join("other-dhcp.log");
    let mut server = Background::start("the other DHCP server", &mut dnsmasq, &log)?;
    server.wait_until("started", Duration::from_secs(10), || tail(&log, 20).contains("DHCP, IP range"))?;
    let (ok, text) = setup(&[])?;
    let told = !ok && text.contains("another DHCP server, 192.168.77.9, answers on eth1");
    stage.check("setup finds another DHCP server on the wire", told, in_the_way(&text))?;
    drop(server);

    let untouched = !debian.path("/etc/systemd/network/05-walt.network").exists()
        && !fs::read_to_string(debian.path("/etc/walt/server.toml"))?.contains("\ninterface");
    stage.check("nothing was changed by any of this", untouched, "")
}

/// By questions on a terminal, on a machine whose network is ifupdown's; then all is as it was before.
fn asked(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    debian.run("apt-get", &["install", "-y", "-q", "--no-install-recommends", "ifupdown"])?;
    debian.run("systemctl", &["stop", "systemd-networkd.socket", "systemd-networkd.service"])?;
    // What is typed: the interface that is proposed, a bridge, a network, an agreement.
    let mut setup = debian.command("script");
    setup.args(["--quiet", "--return", "--command", "walt-server-setup --listen 1", "/dev/null"]);
    let mut setup = setup.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run script(1)")?;
    let mut typed = setup.stdin.take().context("setup has no input")?;
    typed.write_all(b"\n\nnonsense\n192.168.77.0/24\ny\n")?;
    let output = setup.wait_with_output()?;
    drop(typed);
    let text = said(&output);
    let questions =
        ["[eth1]", "Make a bridge walt-net", "expected ADDRESS/PREFIX", "interfaces.d/walt will be", "Go on?"];
    let done = output.status.success() && questions.iter().all(|question| text.contains(question));
    stage.check("setup asks, and makes the bridge by ifupdown", done, if done { "" } else { &text })?;
    let is_up = || -> Result<bool> {
        let address = debian.output("ip", &["-4", "-brief", "address", "show", "walt-net"])?;
        let port = debian.output("ip", &["-o", "link", "show", "master", "walt-net"])?;
        Ok(said(&address).contains("192.168.77.1/24") && said(&port).contains("eth1"))
    };
    stage.check("it is there", is_up()?, "")?;
    debian.run("systemctl", &["disable", "--now", UNIT])?;
    debian.run("ifdown", &["walt-net"])?;
    stage.check("it goes when it is taken down", !is_up()?, "")?;
    debian.run("ifup", &["--all"])?;
    stage.check("and comes with the machine", is_up()?, "")?;
    debian.run("ifdown", &["walt-net"])?;
    fs::remove_file(debian.path("/etc/network/interfaces.d/walt"))?;
    fs::rename(debian.path("/etc/walt/server.toml.old"), debian.path("/etc/walt/server.toml"))?;
    debian.run("systemctl", &["start", "systemd-networkd.service"]).map(drop)
}

fn set_up(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let begun = Instant::now();
    let output = debian.output("walt-server-setup", &[SETUP, HURRY].concat())?;
    let text = said(&output);
    let done = output.status.success() && text.contains("walt-server.service is running");
    stage.check(
        "setup makes the bridge, writes the configuration and starts the service",
        done,
        if done { "" } else { &text },
    )?;
    println!("      in {:.1} s, 1 of which listening", begun.elapsed().as_secs_f64());
    let address = debian.run("ip", &["-4", "-brief", "address", "show", "walt-net"])?;
    stage.check("the bridge has the server's address", address.contains("192.168.77.1/24"), address.trim())?;
    let port = debian.run("ip", &["-o", "link", "show", "master", "walt-net"])?;
    stage.check("the interface is its port", port.contains("eth1"), "")?;
    let state = debian.run("systemctl", &["is-enabled", UNIT])?;
    stage.check("the service comes with the machine", state.trim() == "enabled", "")?;
    let again = debian.output("walt-server-setup", &["--interface", "eth1", "--yes", "--listen", "1"])?;
    let text = said(&again);
    let same = again.status.success() && text.contains("the configuration is as it should be");
    stage.check("setup can be run again, and its own daemon is not in its way", same, if same { "" } else { &text })?;
    let check = debian.output("walt-server-setup", &["--check", "--listen", "1"])?;
    stage.check(
        "--check finds nothing either",
        check.status.success(),
        said(&check).lines().last().unwrap_or_default(),
    )?;

    let node = Host::plug_in(stage.lab, "node", MAC)?;
    node.lease("walt.node.pc-x86-64")?;
    let address = node.address()?;
    stage.check("a node gets its address through the bridge", address.octets()[..3] == [192, 168, 77], address)?;
    let shown = debian.run("walt", &["node", "show", "--all"])?;
    stage.check("and is shown", shown.contains(&address.to_string()), "")
}

/// The service has what the unit gives it and no more.
fn confined(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let pid = debian.run("systemctl", &["show", "-P", "MainPID", UNIT])?;
    let status = debian.run("cat", &[&format!("/proc/{}/status", pid.trim())])?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let (bounding, privileges, filter) = (field("CapBnd:"), field("NoNewPrivs:"), field("Seccomp:"));
    // capabilities(7): CHOWN 0, DAC_OVERRIDE 1, DAC_READ_SEARCH 2, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7,
    // NET_BIND_SERVICE 10, NET_ADMIN 12, NET_RAW 13, SYS_ADMIN 21, MKNOD 27; and SETPCAP 8, if it has not given that up.
    let has = u64::from_str_radix(&bounding, 16).context("CapBnd is no number")?;
    let kept: u64 = [0, 1, 2, 3, 4, 5, 6, 7, 10, 12, 13, 21, 27].iter().map(|bit| 1 << bit).sum();
    let bounded = has & !(1 << 8) == kept;
    stage.check("its capabilities are bounded", bounded, bounding)?;
    stage.check(
        "it can gain none, and its system calls are filtered",
        (privileges.as_str(), filter.as_str()) == ("1", "2"),
        "",
    )?;
    let score = debian.run("systemd-analyze", &["security", "--no-pager", UNIT])?;
    let score = score.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default().trim().to_owned();
    stage.check("systemd tells how exposed it is", !score.is_empty(), score)
}

fn users(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    for user in ["ada", "bob"] {
        debian.run("adduser", &["--quiet", "--disabled-password", "--gecos", "", user])?;
    }
    debian.run("adduser", &["--quiet", "ada", "walt"])?;
    let as_user = |user: &str| debian.output("runuser", &["-u", user, "--", "walt", "status"]);
    let ada = as_user("ada")?;
    let text = said(&ada);
    stage.check("a member of the group may use it", ada.status.success(), text.lines().next().unwrap_or_default())?;
    let bob = as_user("bob")?;
    let text = said(&bob);
    let refused = !bob.status.success() && text.contains("member of the group `walt`");
    stage.check("nobody else, who is told so", refused, text.trim().replace('\n', " "))
}

/// Whatever systemd does to the service, people on the machine see the images.
fn images(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    debian.run("walt", &["image", "import", "--name", "ada/tiny:1", "/root/tiny.oci.tar"])?;
    debian.run("walt", &["node", "boot", "--no-reboot", "--force", MAC, "ada/tiny:1"])?;
    let listed = debian.run("sh", &["-c", "ls /var/lib/walt/images/*/fs/boot/"])?;
    stage.check(
        "an image is a directory for all on the machine",
        listed.contains("pc-x86-64"),
        listed.trim().replace('\n', " "),
    )?;
    let through = debian.run("sh", &["-c", &format!("ls /var/lib/walt/nodes/{MAC}/tftp/")])?;
    stage.check(
        "and the links of the node lead there",
        through.contains("start.ipxe"),
        through.trim().replace('\n', " "),
    )
}

fn killed(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let begun = Instant::now();
    debian.run("systemctl", &["kill", "--signal=KILL", UNIT])?;
    while !debian.output("walt", &["status"])?.status.success() {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = format!("{:.1} s", begun.elapsed().as_secs_f64());
    stage.check("killed, it is back", true, took)?;
    // People's view of images comes after what nodes need.
    let listed = || debian.output("sh", &["-c", "ls /var/lib/walt/images/*/fs/boot/"]);
    while !String::from_utf8_lossy(&listed()?.stdout).contains("pc-x86-64") {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "its images do not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    stage.check("with its images", true, format!("{:.1} s", begun.elapsed().as_secs_f64()))
}

/// What an upgrade does.
fn installed_again(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    let before = debian.run("systemctl", &["show", "-P", "MainPID", UNIT])?;
    debian.run("dpkg", &["--install", PACKAGE])?;
    let after = debian.run("systemctl", &["show", "-P", "MainPID", UNIT])?;
    let state = debian.run("systemctl", &["is-active", UNIT])?;
    stage.check("an upgrade restarts it", state.trim() == "active" && before != after, "")?;
    let kept = fs::read_to_string(debian.path("/etc/walt/server.toml"))?.contains("\ninterface = \"walt-net\"");
    stage.check("and keeps its configuration", kept, "")
}

fn removed(stage: &mut Stage<'_>, debian: &Container) -> Result<()> {
    debian.run("apt-get", &["remove", "-y", "-q", "walt-server"])?;
    let mounts = debian.run("cat", &["/proc/mounts"])?;
    let processes = debian.output("sh", &["-c", "cat /proc/[0-9]*/comm | grep ^walt-"])?;
    let gone = !mounts.contains("walt") && !processes.status.success();
    stage.check("removed: no process and no mount is left", gone, said(&processes))?;
    let kept = debian.path("/etc/walt/server.toml").exists() && debian.path("/var/lib/walt/walt.db").exists();
    stage.check("configuration and state are kept", kept, "")?;
    debian.run("apt-get", &["purge", "-y", "-q", "walt-server"])?;
    let left = debian
        .run("find", &["/", "-xdev", "-name", "*walt*", "-not", "-path", "/root/*", "-not", "-path", "/proc/*"])?;
    // Interfaces that are up stay so.
    let left: Vec<_> = left.lines().filter(|path| !path.starts_with("/sys/")).collect();
    stage.check("purged: nothing is left", left.is_empty(), left.join(" "))?;
    let accounts = debian.run("cat", &["/etc/passwd", "/etc/group"])?;
    stage.check("neither users nor groups", !accounts.contains("walt"), "")
}
