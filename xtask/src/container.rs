//! A Debian with its own systemd as process 1, in namespaces of its own: a machine without hardware, for what has to be
//! installed. It ends with its value, or with the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testbed::lab::{BRIDGE, Lab};
use testbed::process::{Background, run, run_words};

/// How long it may take to boot.
const BOOT: Duration = Duration::from_secs(60);

/// Makes a tree the root of a new mount namespace, with what a container has (systemd's CONTAINER_INTERFACE), and becomes
/// its systemd.
const BOOT_SCRIPT: &str = r#"set -e
root=$1
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir -p dev/pts dev/shm dev/net
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229 net/tun:10:200; do
    IFS=: read -r name major minor <<END
$node
END
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 run run
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=walt-lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"#;

pub(crate) struct Container {
    process: Background,
    /// Its process 1, as this lab sees it.
    init: u32,
    root: PathBuf,
    cgroup: PathBuf,
}

impl Container {
    /// Boots the system at `root`, with an interface `eth1` on the lab's network.
    pub(crate) fn boot(lab: &Lab, root: &Path) -> Result<Self> {
        // A lab has a /sys of its own. systemd wants a tree of control groups, and of the machine's it gets a branch.
        let all = lab.state().join("cgroup");
        fs::create_dir_all(&all)?;
        run(Command::new("mount").args(["-t", "cgroup2", "cgroup2"]).arg(&all))
            .context("no control groups (version 2)")?;
        let name = lab.logs().file_name().and_then(|name| name.to_str()).context("a lab has a name")?;
        remove_stale(&all);
        let cgroup = all.join(format!("walt-{name}"));
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot create {cgroup:?}"))?;
        let script = lab.write("boot-container", BOOT_SCRIPT)?;
        let enter = r#"echo $$ > "$1/cgroup.procs"; shift; exec unshare "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", enter, "sh"]).arg(&cgroup);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child=KILL"]);
        command.args(["--propagation=private", "sh"]).arg(&script).arg(root);
        let mut process = Background::start("the container", &mut command, &lab.logs().join("container.log"))?;
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let mut init = None;
        process.wait_until("started", Duration::from_secs(10), || {
            let child = fs::read_to_string(&children).ok().and_then(|text| text.trim().parse::<u32>().ok());
            let is_systemd =
                |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd");
            init = child.filter(is_systemd);
            init.is_some()
        })?;
        let init = init.context("the container has no process 1")?;
        run_words(&format!("ip link add port-srv type veth peer name eth1 netns {init}"))?;
        run_words(&format!("ip link set port-srv master {BRIDGE} up"))?;
        let container = Self { process, init, root: root.to_owned(), cgroup };
        container.wait_for_boot()?;
        Ok(container)
    }

    fn wait_for_boot(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let state = self.output("systemctl", &["is-system-running"])?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            match state.as_str() {
                "running" => return Ok(()),
                "degraded" => {
                    let failed = self.run("systemctl", &["--failed", "--no-legend", "--plain"])?;
                    // dnsmasq may have found a name server of ours: what the scenario wants of it is seen there.
                    ensure!(
                        failed.lines().all(|line| line.starts_with("dnsmasq")),
                        "in the container failed:\n{failed}"
                    );
                    return Ok(());
                }
                _ if begun.elapsed() > BOOT => {
                    bail!("the container is {state:?} after {BOOT:?}\n{}", self.process.tail(20))
                }
                _ => sleep(Duration::from_millis(100)),
            }
        }
    }

    /// A program inside, ready for more arguments.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([&format!("--target={}", self.init), "--all", "--", "env", "-i"]);
        command.args([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"]).arg(program);
        command
    }

    /// Runs a program inside to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// The same, however it ends.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments).stdin(std::process::Stdio::null());
        command.output().with_context(|| format!("cannot run {program} in the container"))
    }

    /// Where a file of it is, for us.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.process.kill();
        // Groups go from the leaves on, as soon as nobody is in them.
        for _ in 0..50 {
            let _ =
                run(Command::new("find").arg(&self.cgroup).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]));
            if !self.cgroup.exists() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }
}

/// Removes groups that nobody is in any more: those of containers whose lab was killed.
fn remove_stale(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        // cgroups(7): whether there is a process in the group, or below it.
        let events = fs::read_to_string(entry.path().join("cgroup.events")).unwrap_or_default();
        if entry.file_name().to_string_lossy().starts_with("walt-") && events.contains("populated 0") {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those below it, from the leaves on; whether it is gone.
fn remove(cgroup: &Path) -> bool {
    let _ = run(Command::new("find").arg(cgroup).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]));
    !cgroup.exists()
}

/// Unpacks a root file system into the lab.
pub(crate) fn unpack(lab: &Lab, archive: &Path) -> Result<PathBuf> {
    let root = lab.state().join("root");
    fs::create_dir_all(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    run(Command::new("tar")
        .args(["--extract", "--numeric-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(&root))?;
    Ok(root)
}
