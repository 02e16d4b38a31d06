//! What must hold inside of a node that has booted our Debian image, and on the server about it, whatever machine it is.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use boot::Model;
use testbed::lab::SERVER;
use testbed::ssh::Ssh;

use super::stage::{Booted, DEBIAN_BOOT, Stage};

/// All of it, a reboot at the end.
pub(super) fn check(stage: &mut Stage<'_>, booted: &Booted) -> Result<()> {
    union_is_root(stage, &booted.ssh)?;
    system_is_up(stage, &booted.ssh)?;
    clock_is_right(stage, &booted.ssh, "bash")?;
    watchdog_is_in_ram(stage, &booted.ssh)?;
    server_has_the_links(stage, booted)?;
    timeline_is_whole(stage, &booted.node.name)?;
    reboot_forgets(stage, booted, DEBIAN_BOOT)
}

fn union_is_root(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    let root = ssh.run("findmnt -n -o FSTYPE,OPTIONS /")?;
    let overlay = root.starts_with("overlay") && root.contains("lowerdir=/,") && root.contains("upperdir=");
    stage.check("/ is an overlay", overlay, &root)?;

    // The layers are mounted nowhere any more, so each is known by what it does.
    let upper = ssh.run(
        "echo $(stat -f -c %b*%S / | sed 's/\\*/ /') $(sed -n 's/MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)",
    )?;
    let numbers: Vec<u64> = upper.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let half_of_ram =
        matches!(numbers[..], [blocks, size, ram] if (blocks * size).abs_diff(ram * 512) < ram * 1024 / 20);
    stage.check("its upper layer is a tmpfs: / has half of the machine's memory", half_of_ram, &upper)?;

    reads_are_nfs_calls(stage, ssh, "/usr/bin/*grep")?;

    let refused = ssh.run(&format!(
        "mkdir -p /mnt; mount -i -t nfs -o rw,vers=3,nolock,proto=tcp,addr={SERVER} \
         {SERVER}:/var/lib/walt/nodes/$(hostname -I 2>/dev/null | cut -d' ' -f1)/fs /mnt && \
         {{ touch /mnt/x 2>&1; ls /mnt/bin/walt-init; umount /mnt; }}"
    ))?;
    let read_only = refused.contains("Read-only") && refused.contains("/mnt/bin/walt-init");
    stage.check("the NFS root itself is read-only", read_only, refused.replace('\n', ", "))
}

/// `files`, a pattern of the shell's, are such that no running program is among them: their pages can be forgotten.
pub(super) fn reads_are_nfs_calls(stage: &mut Stage<'_>, ssh: &Ssh, files: &str) -> Result<()> {
    let reads = "sed -n 's/^proc3 \\([0-9]* \\)\\{7\\}\\([0-9]*\\) \\([0-9]*\\).*/\\2 \\3/p' /proc/net/rpc/nfs";
    let counts = ssh.run(&format!(
        "echo 3 > /proc/sys/vm/drop_caches; {reads}; cat {files} > /dev/null; {reads}; \
         dd if=/dev/zero of=/usr/big bs=1M count=8 2>/dev/null; sync; {reads}; rm /usr/big"
    ))?;
    let numbers: Vec<u64> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let from_nfs = matches!(numbers[..], [before, _, after, ..] if after > before);
    stage.check(
        "its lower layer is NFS: a file of the image is read by NFS calls",
        from_nfs,
        counts.replace('\n', ", "),
    )?;
    let kept = matches!(numbers[..], [.., _, written] if written == 0);
    stage.check("what is written stays in RAM: 8 MB written, no NFS WRITE call", kept, counts.replace('\n', ", "))
}

fn system_is_up(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    let first = ssh.run("cat /proc/1/comm")?;
    stage.check("process 1 is systemd", first.trim() == "systemd", &first)?;
    // It says so by its exit code too, which must not hide the names of failed units.
    let state = ssh.run("systemctl is-system-running --wait; systemctl --failed --no-legend --plain; true")?;
    stage.check("no unit has failed", state.trim() == "running", state.replace('\n', ", "))
}

/// Asks the node for its time through a shell that is there already, many times, and takes the answer that came back
/// fastest: the true time of that answer lies between question and reply. `shell` is one that knows the time by itself.
pub(super) fn clock_is_right(stage: &mut Stage<'_>, ssh: &Ssh, shell: &str) -> Result<()> {
    let mut child = ssh
        .command()
        .arg(format!("exec {shell} -c 'while read -r line; do echo $EPOCHREALTIME; done'"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start ssh")?;
    let mut questions = child.stdin.take().context("ssh has no input")?;
    let mut answers = BufReader::new(child.stdout.take().context("ssh has no output")?);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut best = (f64::INFINITY, 0.0);
    for _ in 0..200 {
        let asked = now();
        writeln!(questions, "time?")?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        let answered = now();
        let time: f64 = answer.trim().parse().with_context(|| format!("{answer:?} is no time"))?;
        if answered - asked < best.0 {
            best = (answered - asked, time - (asked + answered) / 2.0);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    let (round_trip, offset) = (best.0 * 1000.0, best.1 * 1000.0);
    let seen = format!("off by {offset:.1} ms, seen through a round trip of {round_trip:.1} ms");
    stage.check("the clock is within 20 ms, though the machine was started in 2001", offset.abs() <= 20.0, seen)
}

pub(super) fn watchdog_is_in_ram(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    // Every file that a process holds: program, root, working directory, descriptors, mappings; with the magic number of
    // its file system (linux/magic.h), for which not every `stat` has a name.
    const NFS: &str = "6969 /";
    const OVERLAY: &str = "794c7630 /";
    let held = ssh.run(
        "for p in /proc/[0-9]*; do
             tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^[^ ]*@walt-watchdog ' || continue
             for f in $p/exe $p/root $p/cwd $p/fd/*; do echo \"$(stat -L -f -c %t $f) $(readlink $f)\"; done
             sed -n 's/^[^ ]* [^ ]* [^ ]* \\([^ ]*\\) [1-9][0-9]* *\\(.*\\)/map \\1 \\2/p' $p/maps | sort -u
             sed -n 's/^VmLck:/locked/p' $p/status
         done; grep ' nfs' /proc/self/mountinfo | cut -d' ' -f3; cat /proc/fs/nfsfs/volumes",
    )?;
    let shown = held.replace('\n', "; ");
    stage.check("the watchdog runs", held.contains("locked") && held.contains(" /"), "")?;
    stage.check(
        "the watchdog holds no file on NFS and none of the union",
        !held.contains(NFS) && !held.contains(OVERLAY),
        shown,
    )?;
    let volumes: Vec<&str> = held.lines().filter(|line| line.starts_with("v3")).collect();
    let devices: Vec<&str> = volumes.iter().filter_map(|line| line.split_whitespace().nth(3)).collect();
    stage.check("the kernel knows the NFS volume", !devices.is_empty(), volumes.join("; "))?;
    let mapped = held.lines().filter_map(|line| line.strip_prefix("map ")).filter_map(|line| {
        let (major, minor) = line.split_whitespace().next()?.split_once(':')?;
        Some(format!("{:x}:{:x}", u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
    });
    let on_nfs: Vec<String> = mapped.filter(|device| devices.contains(&device.as_str())).collect();
    stage.check("no page of the watchdog comes from NFS", on_nfs.is_empty(), on_nfs.join(" "))
}

fn server_has_the_links(stage: &mut Stage<'_>, booted: &Booted) -> Result<()> {
    let mac = &booted.node.mac;
    let model = booted.node.model.as_deref().and_then(Model::by_name).context("the node has no model")?;
    let state = stage.daemon()?.state().to_owned();
    let nodes = state.join("nodes");
    let id = booted.node.image_id.clone().context("the node has no image id")?;
    let image = state.join("images").join(&id).join("fs");
    for form in [booted.node.ip.clone(), mac.replace(':', "-"), booted.node.name.clone(), mac.clone()] {
        let path = nodes.join(&form).join("fs");
        let target = path.canonicalize().with_context(|| format!("{path:?} leads nowhere"))?;
        stage.check(
            &format!("nodes/{form}/fs leads to the image"),
            target == image.canonicalize()?,
            target.display(),
        )?;
        let script = nodes.join(&form).join("tftp").join(model.second_stage());
        let size = std::fs::metadata(&script).with_context(|| format!("{script:?} cannot be read"))?.len();
        stage.check(
            &format!("nodes/{form}/tftp/{} can be read", model.second_stage()),
            size > 0,
            format!("{size} bytes"),
        )?;
    }
    let agent = std::fs::metadata(image.join("bin/walt-init")).context("bin/walt-init of the mounted image")?;
    stage.check("images/<id>/fs/bin/walt-init is there", agent.len() > 100_000, format!("{} bytes", agent.len()))
}

pub(super) fn timeline_is_whole(stage: &mut Stage<'_>, name: &str) -> Result<()> {
    let steps = stage.steps(name)?;
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let has = |wanted: &str| names.iter().any(|name| name.contains(wanted));
    for wanted in ["dhcp", "regist", "file", "mount", "union", "clock", "ssh"] {
        stage.check(
            &format!("the timeline has a step {wanted:?}"),
            has(wanted),
            if has(wanted) { String::new() } else { names.join(" ") },
        )?;
    }
    let in_order = steps.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms);
    stage.check("the timeline is in order", in_order, format!("{} steps", steps.len()))?;
    // Before the image has arrived, the bootloader is told to come again; nothing fails after that.
    let ready = steps.iter().position(|step| step.name == "image-ready").unwrap_or(0);
    let failed = steps[ready..].iter().filter(|step| step.status == api::StepStatus::Failed);
    let failed: Vec<String> = failed.map(|step| format!("{}: {}", step.name, step.detail)).collect();
    stage.check("no step failed once the image was there", failed.is_empty(), failed.join("; "))
}

pub(super) fn reboot_forgets(stage: &mut Stage<'_>, booted: &Booted, limit: Duration) -> Result<()> {
    let name = &booted.node.name;
    booted.ssh.run("echo mine > /root/mine && echo mine > /etc/hostname && sync && cat /root/mine")?;
    let before = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.daemon()?.walt(&["node", "reboot", name])?;
    let again = stage.wait_until_booted_anew(&booted.node.mac, &before, limit)?;
    let files = again.ssh.run("ls /root/mine /etc/hostname 2>&1; true")?;
    let gone = files.matches("No such file").count() == 2;
    stage.check("the files written before are gone", gone, files.replace('\n', ", "))
}
