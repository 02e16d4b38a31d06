//! From an image that is ready to the nodes that wait for it.

use net::MacAddr;

use super::variant::Content;
use super::wanted::{ImageKey, Wanted};
use super::{Action, Device, Registrar};

impl Device {
    /// What it is to boot; `None` for what is no node.
    pub fn image_key(&self) -> Option<ImageKey> {
        let (name, model) = self.row.image.clone().zip(self.row.model.as_deref())?;
        Some(ImageKey { name, wanted: Wanted::by_model(model) })
    }
}

impl Registrar {
    /// What each node is to boot.
    pub(super) fn keys_of_nodes(&self) -> impl Iterator<Item = (ImageKey, MacAddr)> {
        self.devices.values().filter_map(|device| Some((device.image_key()?, device.row.mac)))
    }

    pub(super) fn waiting_for(&self, key: &ImageKey) -> Vec<MacAddr> {
        self.keys_of_nodes().filter(|(of, _)| of == key).map(|(_, mac)| mac).collect()
    }

    /// A name under which the image of this id is served.
    pub(super) fn name_of(&self, id: &str) -> Option<String> {
        let mut variants = self.variants();
        variants.find(|(_, variant)| variant.ready().is_some_and(|ready| ready.image_id == id)).map(|(key, _)| key.name)
    }

    /// Tells all who wait for it.
    pub(super) fn note(&self, key: &ImageKey, step: &'static str, detail: String, ok: bool, actions: &mut Vec<Action>) {
        for mac in self.waiting_for(key) {
            actions.push(Action::Note { mac, step, detail: detail.clone(), ok });
        }
    }

    /// The view of this id is open, maybe again: nodes that have it are served from it.
    pub(super) fn reopened(&self, id: &str, actions: &mut Vec<Action>) {
        for device in self.devices.values() {
            let row = &device.row;
            if row.served.as_deref() == Some(id) || row.held.iter().any(|held| held == id) {
                actions.push(Action::Export(row.mac));
            }
        }
    }

    /// Serves the image to all who wait for it.
    pub(super) fn deliver(&mut self, key: &ImageKey, actions: &mut Vec<Action>) {
        for mac in self.waiting_for(key) {
            self.deliver_to(mac, actions);
        }
    }

    /// Serves a node the image it is to boot, if that is ready and made for it; true if it was not served it before.
    pub(super) fn deliver_to(&mut self, mac: MacAddr, actions: &mut Vec<Action>) -> bool {
        let Some(device) = self.devices.get_mut(&mac) else { return false };
        let (Some(key), Some(model)) = (device.image_key(), &device.row.model) else { return false };
        let variant = self.images.get(&key.name).and_then(|entry| entry.variants.get(&key.wanted));
        let Some(content) = variant.and_then(|variant| variant.content.as_ref()) else { return false };
        let Some(ready) = &content.ready else { return false };
        if let Some(cause) = unsuitable(&key.name, content, model) {
            if device.problem.as_ref().is_none_or(|(_, old)| *old != cause) {
                actions.push(Action::Note { mac, step: "check", detail: cause.clone(), ok: false });
            }
            device.problem = Some(("check", cause));
            return false;
        }
        if matches!(device.problem, Some(("check", _))) {
            device.problem = None;
        }
        if device.row.served.as_ref() == Some(&ready.image_id) {
            // The same, maybe by another name, which may be another user's.
            if device.row.served_as.as_ref() != Some(&key.name) {
                device.row.served_as = Some(key.name);
                actions.extend([Action::Save(mac), Action::Export(mac)]);
            }
            return false;
        }
        let old = device.row.served.replace(ready.image_id.clone());
        device.row.served_as = Some(key.name.clone());
        self.garbage |= old.is_some();
        actions.extend([Action::Save(mac), Action::Export(mac), Action::Link(mac)]);
        self.tell_served(mac, &key, actions);
        true
    }

    /// Tells the node's timeline that what it is to boot is served, if it is.
    pub(super) fn tell_served(&self, mac: MacAddr, key: &ImageKey, actions: &mut Vec<Action>) {
        let served = self.devices.get(&mac).and_then(|device| device.row.served.as_ref());
        let wanted = self.variant(key).and_then(|variant| variant.ready());
        if let Some(id) = served.filter(|id| wanted.is_some_and(|ready| ready.image_id == **id)) {
            let detail = format!("{} is served, image {}", key.name, id.get(..12).unwrap_or(id));
            actions.push(Action::Note { mac, step: "image-ready", detail, ok: true });
        }
    }
}

/// Why a machine of this model can not boot the image, as far as is known.
pub(super) fn unsuitable(name: &str, content: &Content, model: &str) -> Option<String> {
    if !content.models.is_empty() && !content.models.iter().any(|made_for| made_for == model) {
        return Some(format!("image {name} is not made for a {model}, but for {}", content.models.join(", ")));
    }
    // Of a model that we do not know, its name is all that can be checked.
    let architectures = boot::Model::by_name(model)?.architectures;
    let built_for = content.ready.as_ref()?.architecture;
    let runs = || architectures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (!architectures.contains(&built_for))
        .then(|| format!("image {name} is built for {built_for}, and a {model} runs {} only", runs()))
}
