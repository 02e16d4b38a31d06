//! Two nodes with two images at once; neither can mount the other's.

use anyhow::{Context, Result};
use testbed::lab::SERVER;
use testbed::machine::Spec;

use super::stage::{Stage, TINY_BOOT};
use crate::image::{Built, Recipe, derive};

const FIRST: &str = "52:54:00:2b:0d:01";
const SECOND: &str = "52:54:00:2b:0d:02";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let other = derive(&image, "walt/tiny-pc:other", &[("/etc/variant", "other\n")])?;
    let reference = stage.push(&other)?;
    let one = stage.boot_one(&image, &Spec::new("pc-first", FIRST), TINY_BOOT)?;
    stage.switch_on(&Spec::new("pc-second", SECOND))?;
    let two = stage.wait_until_booted(SECOND, TINY_BOOT)?;
    let before = two.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    stage.daemon()?.walt(&["image", "clone", &reference])?;
    stage.daemon()?.walt(&["node", "boot", &two.node.name, &reference])?;
    let two = stage.wait_until_booted_anew(SECOND, &before, TINY_BOOT)?;

    let variants = [one.ssh.run("cat /etc/variant 2>/dev/null; true")?, two.ssh.run("cat /etc/variant")?];
    stage.check("each runs its own image at the same time", variants == ["", "other\n"], variants.concat())?;
    let mount = |path: &str| {
        format!(
            "mkdir -p /mnt; mount -t nfs -o ro,vers=3,nolock,proto=tcp,addr={SERVER} {SERVER}:{path} /mnt 2>&1 && \
             {{ cat /mnt/etc/variant 2>/dev/null; umount /mnt; echo mounted; }}; true"
        )
    };
    for (asking, other, other_mac) in [(&one, &two, SECOND), (&two, &one, FIRST)] {
        let has_variant = other_mac == FIRST;
        let own = asking.ssh.run(&mount(&format!("/var/lib/walt/nodes/{}/fs", asking.node.ip)))?;
        let mounted = own.contains("mounted") && own.contains("other") == has_variant;
        let what = format!("{} mounts its own image by its address", asking.node.name);
        stage.check(&what, mounted, own.replace('\n', ", "))?;
        let forms = [other.node.ip.clone(), other_mac.to_owned(), other_mac.replace(':', "-"), other.node.name.clone()];
        for form in forms {
            let refused = asking.ssh.run(&mount(&format!("/var/lib/walt/nodes/{form}/fs")))?;
            let what = format!("nodes/{form}/fs is refused to {}", asking.node.name);
            stage.check(&what, !refused.contains("mounted"), refused)?;
        }
        let up = asking.ssh.run(&mount(&format!("/var/lib/walt/nodes/{}/../{}/fs", asking.node.ip, other.node.ip)))?;
        stage.check("a path with .. is refused", !up.contains("mounted"), up)?;
    }
    as_a_set(stage, &other)
}

/// What a person does with both of them by one command, and with one that is somebody else's.
fn as_a_set(stage: &mut Stage<'_>, image: &Built) -> Result<()> {
    let first = stage.wait_for_node(FIRST, "booted", TINY_BOOT, |node| node.state == api::NodeState::Booted)?;
    stage.daemon()?.walt(&["node", "rename", &first.name, "kitchen"])?;
    let kitchen = stage.wait_until_booted(FIRST, TINY_BOOT)?;
    stage.check("a node that is up is renamed, and goes on", kitchen.node.name == "kitchen", &kitchen.node.name)?;
    let second = stage.wait_until_booted(SECOND, TINY_BOOT)?;
    let ids = [&kitchen, &second].map(|booted| booted.ssh.run("cat /proc/sys/kernel/random/boot_id"));
    let said = stage.daemon()?.walt(&["node", "reboot", "all-nodes"])?;
    stage.check(
        "`walt node reboot all-nodes` reboots both",
        said.lines().count() == 2,
        said.trim().replace('\n', "; "),
    )?;
    for (mac, id) in [FIRST, SECOND].into_iter().zip(ids) {
        stage.wait_until_booted_anew(mac, &id?, TINY_BOOT)?;
    }
    let said = stage.daemon()?.walt(&["node", "wait", "kitchen,all-nodes", "--timeout", "60"])?;
    let both = said.lines().count() == 2 && said.contains("kitchen is booted");
    stage.check("`walt node wait` takes a set, each of it once", both, said.trim().replace('\n', "; "))?;

    let archive = image.archive.to_str().context("the archive's path is no text")?;
    stage.daemon()?.walt(&["image", "import", "--name", "ada/tiny", archive])?;
    stage.daemon()?.walt(&["node", "boot", "--no-reboot", "kitchen", "ada/tiny"])?;
    let mut refused = stage.daemon()?.command("walt");
    let refused = refused.args(["node", "boot", "all-nodes", "default"]).stdin(std::process::Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&refused.stderr).trim().to_owned();
    let is_it = refused.status.code() == Some(1) && told.contains("kitchen is ada's: say --force");
    stage.check("a node that boots another user's image is not touched without --force", is_it, told)?;
    stage.daemon()?.walt(&["node", "boot", "--no-reboot", "--force", "kitchen", "default"])?;
    let free = stage.daemon()?.node(FIRST)?.is_some_and(|node| node.free && node.owner.is_none());
    stage.check("with it, it is; and then it is free", free, "")
}
