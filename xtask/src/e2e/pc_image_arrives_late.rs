//! The first pull takes long: until the image is there the node reboots and comes again.

use std::time::Duration;

use anyhow::Result;
use testbed::machine::Spec;
use testbed::peers::Registry;

use super::stage::{Stage, TINY_BOOT};
use crate::image::Recipe;

const MAC: &str = "52:54:00:1a:7e:01";

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let image = stage.image(Recipe::TinyPc)?;
    stage.push(&image)?;
    stage.registry()?.stop();
    stage.start_daemon(&format!("{}/{}", Registry::HOST, image.name), "")?;
    stage.switch_on(&Spec::new("pc-late", MAC))?;

    let minutes = Duration::from_secs(180);
    let node = stage.wait_for_node(MAC, "registered", minutes, |node| node.kind == api::NodeKind::Node)?;
    let waits = node.registration != api::Registration::Ready;
    stage.check("the node is registered while its image is away", waits, format!("{:?}", node.registration))?;
    let told = stage.wait_for_node(MAC, "told why it waits", minutes, |node| match &node.registration {
        api::Registration::Pulling { trouble, .. } => trouble.is_some(),
        api::Registration::Failed { .. } => true,
        _ => false,
    })?;
    let shown = stage.daemon()?.walt(&["node", "show", &told.name])?;
    stage.check(
        "walt node show says which registry does not answer",
        shown.contains(Registry::HOST),
        shown.replace('\n', " | "),
    )?;

    stage.machine(0)?.wait_for("rebooting in", minutes)?;
    stage.machine(0)?.wait_for("asking DHCP for an address as walt.node.", minutes)?;
    stage.check("the machine reboots by itself and comes again", true, "")?;
    stage.registry()?.resume()?;
    let booted = stage.wait_until_booted(MAC, TINY_BOOT)?;
    let ready = booted.node.registration == api::Registration::Ready;
    stage.check("once the registry answers the image arrives and the node boots it", ready, "")
}
