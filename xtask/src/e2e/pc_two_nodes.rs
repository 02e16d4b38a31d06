//! Two nodes with two images at once; neither can mount the other's.

use anyhow::Result;
use testbed::lab::SERVER;
use testbed::machine::Spec;

use super::stage::{Stage, TINY_BOOT};
use crate::image::derive;

const FIRST: &str = "52:54:00:2b:0d:01";
const SECOND: &str = "52:54:00:2b:0d:02";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.images.tiny.clone();
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
             {{ cat /mnt/etc/variant; umount /mnt; echo mounted; }}; true"
        )
    };
    let own = two.ssh.run(&mount(&format!("/var/lib/walt/nodes/{}/fs", two.node.ip)))?;
    let mounted = own.contains("other") && own.contains("mounted");
    stage.check("a node mounts its own image by its address", mounted, own.replace('\n', ", "))?;
    for form in [one.node.ip.clone(), FIRST.to_owned(), FIRST.replace(':', "-"), one.node.name.clone()] {
        let refused = two.ssh.run(&mount(&format!("/var/lib/walt/nodes/{form}/fs")))?;
        stage.check(&format!("the other node's nodes/{form}/fs is refused"), !refused.contains("mounted"), refused)?;
    }
    let up = two.ssh.run(&mount(&format!("/var/lib/walt/nodes/{}/../{}/fs", two.node.ip, one.node.ip)))?;
    stage.check("a path with .. is refused", !up.contains("mounted"), up)
}
