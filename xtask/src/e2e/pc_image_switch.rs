//! `walt node boot` gives a node another image while it uses the old one.

use std::time::Duration;

use anyhow::Result;
use testbed::machine::Spec;

use super::stage::{Stage, TINY_BOOT};
use crate::image::{Recipe, derive};

const MAC: &str = "52:54:00:5c:17:01";

/// Reads the same files again and again, from the server each time, and tells the console of any difference.
const READER: &str = "\
sums() { echo 3 > /proc/sys/vm/drop_caches; md5sum /usr/sbin/dropbear /bin/busybox 2>&1; }
first=$(sums)
while [ \"$(sums)\" = \"$first\" ]; do echo round >> /root/rounds; done
echo the files read have failed or changed > /dev/console";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    let booted = stage.boot_one(&image, &Spec::new("pc-switch", MAC), TINY_BOOT)?;
    let name = booted.node.name.clone();
    let old = booted.node.image_id.clone().unwrap_or_default();
    let none = booted.ssh.run("ls /etc/variant 2>&1; true")?;
    stage.check("the first image has no /etc/variant", none.contains("No such file"), none)?;

    let second = derive(&image, "walt/tiny-pc:second", &[("/etc/variant", "second\n")])?;
    let reference = stage.push(&second)?;
    let cloned = stage.daemon()?.walt(&["image", "clone", &reference])?;
    stage.check(
        "walt image clone gets the second image",
        cloned.contains("tiny-pc:second"),
        cloned.replace('\n', ", "),
    )?;
    let before = booted.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    // Something reads the old image up to the last moment: it must not see the new one, nor an error.
    let started = booted.ssh.run(&format!(
        "echo '{READER}' > /root/reader; setsid sh /root/reader < /dev/null > /dev/null 2>&1 &
         tries=0; while ! [ -s /root/rounds ] && [ $tries -lt 60 ]; do sleep 1; tries=$((tries + 1)); done
         cat /root/rounds"
    ))?;
    stage.check("the node reads the image it has, again and again", started.starts_with("round"), started)?;
    stage.machine(0)?.skip_console();
    stage.daemon()?.walt(&["node", "boot", &name, &reference])?;
    stage.wait_for_node(MAC, "given the new image", Duration::from_secs(120), |node| {
        node.image_id.as_ref().is_some_and(|id| *id != old)
    })?;
    let again = stage.wait_until_booted_anew(MAC, &before, TINY_BOOT)?;
    let variant = again.ssh.run("cat /etc/variant")?;
    stage.check("after the reboot the node runs the second image", variant.trim() == "second", variant)?;
    let id = again.node.image_id.clone().unwrap_or_default();
    stage.check("the two images have different ids", id != old, format!("{old:.12} -> {id:.12}"))?;
    let console = stage.machine(0)?.console_tail(2000);
    let errors: Vec<&str> =
        console.lines().filter(|line| line.contains("files read have failed") || line.contains("Stale")).collect();
    stage.check("nothing failed while the old image was in use", errors.is_empty(), errors.join(" | "))?;

    let before = again.ssh.run("cat /proc/sys/kernel/random/boot_id")?;
    let first = format!("{}/{}", testbed::peers::Registry::HOST, image.name);
    stage.daemon()?.walt(&["node", "boot", &name, &first])?;
    let third = stage.wait_until_booted_anew(MAC, &before, TINY_BOOT)?;
    let none = third.ssh.run("ls /etc/variant 2>&1; true")?;
    stage.check("and back: the node runs the first image again", none.contains("No such file"), none)?;
    let id = third.node.image_id.unwrap_or_default();
    stage.check("the first image has the id that it had", id == old, format!("{id:.12}"))
}
