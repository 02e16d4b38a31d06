//! `/persist` of a node: a whole test suite for file systems on it, and files that outlive the server and the node.

use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::machine::Spec;
use testbed::ssh::Ssh;

use super::stage::{Booted, Stage, TINY_BOOT};
use crate::image::Recipe;
use crate::static_programs::{self, FSX, PJDFSTEST};

pub(super) const NAME: &str = "persist";
const MAC: &str = "52:54:00:9e:51:01";

/// Two users beside root, as the test suite wants them, and no naps longer than what the clock of files is good for.
///
/// Three cases can't pass on any NFSv3: times have 32 bits (RFC 1813 §2.5), and one more is wanted; a file that is
/// unlinked while it is open keeps a name, since the server knows of no open files; and the C library that is built into
/// the suite says that a file may have 8 names, whatever the file system says.
const SUITE: &str = "\
[features]
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
expected_failures = [\"utimensat::y2038\", \"unlink::open_file_not_freed\", \"link::link_count_max\"]
[dummy_auth]
entries = [[\"nobody\", \"nobody\"], [\"tests\", \"tests\"]]
";
const USERS: &str = "\
echo 'nobody:x:65534:65534::/:/bin/sh' >> /etc/passwd; echo 'nobody:x:65534:' >> /etc/group
echo 'tests:x:1234:1234::/:/bin/sh' >> /etc/passwd; echo 'tests:x:1234:' >> /etc/group";

/// What is copied: programs, links, directories, several owners and modes.
const SOURCE: &str = "mkdir /tmp/source; cp -a /usr/sbin /lib/modules /etc /tmp/source; cd /tmp/source
chown -R 1234:65534 etc; chmod 4750 etc/passwd; chmod 1777 etc; touch -d 2001-02-03 etc/group; mkfifo etc/pipe";

/// Owner, mode, time and content of everything below the working directory; not the times of links, which busybox's cp
/// leaves alone.
const TREE: &str = "find . ! -type l ! -name . | sort | xargs stat -c '%n %f %u %g %Y' > /tmp/stat
find . -type f | sort | xargs md5sum > /tmp/sums; find . -type l | sort | xargs -n1 readlink > /tmp/links
find . -type f | wc -l; cat /tmp/stat /tmp/sums /tmp/links | md5sum";

/// Builds what runs on the node.
pub(super) fn prepare() -> Result<()> {
    PJDFSTEST.built()?;
    FSX.built()?;
    static_programs::example("random-writes").map(drop)
}

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-persist", MAC), TINY_BOOT)?;
    let mounted = booted.ssh.run("grep ' /persist ' /proc/mounts")?;
    let read_write = mounted.contains(" nfs rw,") && mounted.contains("hard") && mounted.contains("nolock");
    stage.check("/persist is mounted, read-write over NFS", read_write, mounted)?;
    let steps = stage.steps(&booted.node.name)?;
    let step = steps.iter().find(|step| step.name == "agent:persist").context("the agent tells of no step persist")?;
    stage.check("the boot has a step that says so", step.status == api::StepStatus::Ok, &step.detail)?;
    for program in [PJDFSTEST.built()?, FSX.built()?, static_programs::example("random-writes")?] {
        upload(&booted.ssh, &program)?;
    }
    suite(stage, &booted.ssh)?;
    exerciser(stage, &booted.ssh)?;
    interrupted(stage, booted)
}

/// Copies a program to the node's `/tmp`.
fn upload(ssh: &Ssh, program: &Path) -> Result<()> {
    let name = program.file_name().and_then(|name| name.to_str()).context("a program has a name")?;
    let file = std::fs::File::open(program).with_context(|| format!("cannot open {program:?}"))?;
    let mut command = ssh.command();
    command.arg(format!("cat > /tmp/{name} && chmod 755 /tmp/{name}")).stdin(Stdio::from(file));
    let status = command.status().context("cannot start ssh")?;
    ensure!(status.success(), "{name} can't be copied to the node");
    Ok(())
}

fn suite(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    let begun = Instant::now();
    ssh.run(&format!("{USERS}\nprintf '%s\\n' '{}' > /tmp/suite.toml; mkdir /persist/suite", SUITE.trim_end()))?;
    let out = ssh.run(
        "cd /persist/suite; /tmp/pjdfstest -c /tmp/suite.toml -p /persist/suite -s /run > /tmp/suite.log 2>&1; \
         grep -A3 FAILED /tmp/suite.log; grep Summary /tmp/suite.log || tail -5 /tmp/suite.log",
    )?;
    let plain = without_colours(&out);
    let passed = plain.contains("Summary: 0 failed");
    stage.check("pjdfstest passes", passed, format!("{} in {:.0} s", plain.trim(), begun.elapsed().as_secs_f64()))
}

fn exerciser(stage: &mut Stage<'_>, ssh: &Ssh) -> Result<()> {
    let out =
        ssh.run("cd /persist && /tmp/fsx -N 1500 -S 7 -P /tmp fsx-file 2>&1 | tail -3; ls -l /persist/fsx-file")?;
    stage.check("fsx finds what it has written, 1500 operations", !out.contains("error"), out.replace('\n', "; "))
}

/// The server is killed three times while files are copied and changed at random; then the node boots again.
fn interrupted(stage: &mut Stage<'_>, booted: Booted) -> Result<()> {
    let ssh = &booted.ssh;
    ssh.run(SOURCE)?;
    let original = ssh.run(&format!("cd /tmp/source; {TREE}"))?;
    ssh.run(
        "mkdir /persist/work; (/tmp/random-writes work /persist/work 77 /tmp/stop > /tmp/steps 2> /tmp/errors; \
         echo ended >> /tmp/errors) > /dev/null 2>&1 < /dev/null & \
         (i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); cp -a /tmp/source /persist/tree-$i 2>> /tmp/copy-errors; done; \
         echo $i > /tmp/copies) > /dev/null 2>&1 < /dev/null &",
    )?;
    for round in 1..=3 {
        sleep(Duration::from_secs(3));
        stage.daemon()?.kill();
        sleep(Duration::from_millis(700));
        stage.daemon()?.resume()?;
        sleep(Duration::from_secs(3));
        ssh.run("sync; echo 3 > /proc/sys/vm/drop_caches")?;
        let status = stage.daemon()?.walt(&["status", "--json"])?;
        println!("      killed and started again, {round} of 3; since then: {}", counters(&status));
    }
    let ended = ssh.run(
        "touch /tmp/stop; n=0; while [ ! -s /tmp/copies ] || ! grep -q ended /tmp/errors; do sleep 1; n=$((n + 1)); \
         [ $n -lt 90 ] || break; done; cat /tmp/steps /tmp/copies /tmp/errors /tmp/copy-errors; sync",
    )?;
    let words: Vec<&str> = ended.split_whitespace().collect();
    let (steps, copies) = match words[..] {
        [steps, copies, "ended"] => (steps.to_owned(), copies.to_owned()),
        _ => return stage.check("no program was told of an error", false, ended),
    };
    stage.check("no program was told of an error", true, format!("{steps} random steps, {copies} copies of a tree"))?;
    let before = ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.daemon()?.walt(&["node", "reboot", &booted.node.name])?;
    let again = stage.wait_until_booted_anew(MAC, &before, TINY_BOOT)?;
    upload(&again.ssh, &static_programs::example("random-writes")?)?;
    let checked = again.ssh.run(&format!("/tmp/random-writes check /persist/work 77 {steps} 2>&1"))?;
    stage.check(
        "after a reboot every file is as its program left it",
        checked.contains("as they were left"),
        checked,
    )?;
    let copied = again.ssh.run(&format!("for tree in /persist/tree-*; do (cd $tree; {TREE}); done | sort -u"))?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    stage.check(
        "and so is each tree that cp -a copied",
        lines(&copied) == lines(&original),
        copied.replace('\n', ", "),
    )?;
    let tree = stage.daemon()?.state().join("persist").join(MAC).join("_free");
    let there = std::fs::read_dir(&tree).with_context(|| format!("cannot read {tree:?}"))?.count();
    stage.check(
        "on the server it is a directory, the one for who boots the default image",
        there >= 4,
        tree.display(),
    )?;
    switched_off(stage, &again)
}

/// The setting `mount.persist`: what is mounted stays until the node boots again.
fn switched_off(stage: &mut Stage<'_>, booted: &Booted) -> Result<()> {
    let (ssh, name) = (&booted.ssh, &booted.node.name);
    stage.daemon()?.walt(&["node", "config", name, "mount.persist=false"])?;
    let still = ssh.run("echo still > /persist/still && sync && cat /persist/still")?;
    stage.check("a node that is told to do without keeps what it has mounted", still.trim() == "still", still)?;
    let before = ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.daemon()?.walt(&["node", "reboot", name])?;
    let again = stage.wait_until_booted_anew(MAC, &before, TINY_BOOT)?;
    let steps = stage.steps(name)?;
    let step = steps.iter().find(|step| step.name == "agent:persist").context("the agent tells of no step persist")?;
    let there = again.ssh.run("ls -d /persist 2>&1; true")?;
    let without = step.status == api::StepStatus::Ok && step.detail.contains("none for this node");
    stage.check("and boots without", without && there.contains("No such file"), format!("{}; {there}", step.detail))
}

/// What the server says of its NFS service, in one line.
fn counters(status: &str) -> String {
    let names = ["changes", "syncs", "replayed"];
    let found = names.iter().filter_map(|name| {
        let (_, rest) = status.split_once(&format!("\"nfs.{name}\""))?;
        let number: String =
            rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        Some(format!("{name} {number}"))
    });
    found.collect::<Vec<_>>().join(", ")
}

/// Text without what terminals take for colours (ECMA-48 "SGR").
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect::<String>()
}
