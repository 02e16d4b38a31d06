//! Registration: from a lease to a node whose image is served.
//!
//! [`Registrar`] is the decision, without I/O: it holds what is known of devices and images, takes
//! an [`Input`] and the time, and returns the [`Action`]s to carry out, in order. What takes long
//! (pulling, preparing) comes back as another input. A failure never takes away from a node what it
//! was served before.

pub mod config;
mod deliver;
mod devices;
mod image;
mod lookup;
mod sets;
mod status;
pub mod switches;
#[cfg(test)]
mod tests;
mod variant;
#[cfg(test)]
mod variants_tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use api::{Problem, ProblemKind};
use boot::Architecture;
use net::{LeaseEvent, MacAddr};

use deliver::unsuitable;
pub use sets::Owner;
pub use variant::{Content, Failure, ImageEntry, Job, Prepared, Pulled, Ready, Variant};
pub use wanted::{ImageKey, Wanted, architecture_of};

use crate::names;
use crate::registry::{DeviceRow, ImageRow, Loaded};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The daemon has started: whatever nodes need is made ready.
    Start,
    /// A lease was acknowledged.
    Lease(LeaseEvent),
    /// A node has mounted an image.
    Mounted {
        /// Address of the node.
        client: Ipv4Addr,
        /// Image id.
        image: String,
    },
    /// A person wants the node to boot this image from now on.
    Boot {
        /// Name, mac or ip of the node.
        node: String,
        /// Name of an image, or `default`.
        image: String,
    },
    /// A person wants the device to be called so.
    Rename {
        /// Name, mac or ip of the device.
        device: String,
        /// Its new name.
        name: String,
    },
    /// A person wants the device to be unknown.
    Forget {
        /// Name, mac or ip of the device.
        device: String,
    },
    /// A person wants a virtual node.
    Create {
        /// Hardware address that it is to have; the next free one if another device has it.
        mac: MacAddr,
        /// Name.
        name: String,
        /// Settings, by key.
        config: BTreeMap<String, String>,
    },
    /// A person wants settings of the device changed.
    Configure {
        /// Name, mac or ip of the device.
        device: String,
        /// New values by key; an empty one brings the default back.
        changes: BTreeMap<String, String>,
    },
    /// The kernel passes on packets for the devices behind NAT, or can not.
    NatSet {
        /// Why it can not.
        result: Result<(), String>,
    },
    /// A person wants the image's current content from its registry.
    Clone {
        /// Full name.
        name: String,
        /// What for; `None`: for all who have it or wait for it.
        architecture: Option<Architecture>,
    },
    /// Bytes of an image have arrived.
    Progress {
        /// The image.
        key: ImageKey,
        /// So far.
        done: u64,
        /// All of them; 0 while this is not known.
        total: u64,
    },
    /// A pull goes on after a failure of its registry.
    Retrying {
        /// The image.
        key: ImageKey,
        /// What failed.
        cause: String,
    },
    /// A pull ended.
    Pulled {
        /// The image.
        key: ImageKey,
        /// What came, or why nothing did.
        result: Result<Pulled, Failure>,
    },
    /// An archive held these images, which are all that the name stands for from now on.
    Imported {
        /// Full name.
        name: String,
        /// One for each platform.
        images: Vec<Pulled>,
    },
    /// Preparing ended: the image can be served under this id.
    Prepared {
        /// Full name.
        name: String,
        /// Digest that was prepared.
        digest: String,
        /// What it is, or why it can not be served.
        result: Result<Prepared, Failure>,
    },
    /// The links of a node were set, or could not be.
    Linked {
        /// The node.
        mac: MacAddr,
        /// Why they could not.
        result: Result<(), String>,
    },
    /// A person wants the name forgotten.
    Remove {
        /// Name of an image.
        name: String,
    },
    /// Garbage collection ended.
    Collected {
        /// False: somebody is at work on an image, and it must come again.
        done: bool,
    },
    /// It is time to look at what is to be tried again.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Record the device.
    Save(MacAddr),
    /// The device is known no more: its record, its links, its exports.
    Forget(MacAddr),
    /// The device's settings are others now.
    Configured(MacAddr),
    /// Record the image's name.
    SaveImage(ImageRow),
    /// What is wanted under this name is forgotten.
    ForgetImage(ImageKey),
    /// Get the image from its registry.
    Pull(ImageKey),
    /// Write the server's layer and the index, open the view, mount it.
    Prepare {
        /// Full name.
        name: String,
        /// Digest of the image.
        digest: String,
    },
    /// Bring the services' table up to date for this node.
    Export(MacAddr),
    /// Set the links below `nodes/` of this node.
    Link(MacAddr),
    /// A step for logs and the node's timeline.
    Note {
        /// The node.
        mac: MacAddr,
        /// Name of the step.
        step: &'static str,
        /// Particulars.
        detail: String,
        /// Whether it went well.
        ok: bool,
    },
    /// Run the user's hook.
    Hook(LeaseEvent),
    /// Free what no name and no node uses.
    CollectGarbage,
}

/// A device, and what is wrong with it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What is kept.
    pub row: DeviceRow,
    /// Failed step and cause, where it is not the image's own.
    pub problem: Option<(&'static str, String)>,
}

/// What is known of devices and images, and what is decided about them.
pub struct Registrar {
    devices: BTreeMap<MacAddr, Device>,
    images: BTreeMap<String, ImageEntry>,
    /// Virtual nodes that were removed, and when (milliseconds since 1970).
    removed: BTreeMap<MacAddr, i64>,
    default_image: Box<dyn Fn(&str) -> String + Send + Sync>,
    garbage: bool,
    collecting: bool,
    next_retry_ms: Option<i64>,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar")
            .field("devices", &self.devices)
            .field("images", &self.images)
            .finish_non_exhaustive()
    }
}

impl Registrar {
    /// Starts from what the registry has kept. `default_image` gives the full name of a model's image.
    pub fn new(loaded: &Loaded, default_image: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let devices = loaded.devices.iter().map(|row| (row.mac, Device { row: row.clone(), problem: None })).collect();
        let mut images: BTreeMap<String, ImageEntry> = BTreeMap::new();
        for row in &loaded.images {
            let entry = images.entry(row.key.name.clone()).or_default();
            entry.variants.insert(row.key.wanted.clone(), Variant::kept(row));
        }
        Self {
            devices,
            images,
            removed: BTreeMap::new(),
            default_image: Box::new(default_image),
            garbage: false,
            collecting: false,
            next_retry_ms: None,
        }
    }

    /// Decides. `now_ms` is milliseconds since 1970.
    ///
    /// # Errors
    /// What a person asked for can not be done; nothing has changed.
    pub fn handle(&mut self, input: Input, now_ms: i64) -> Result<Vec<Action>, Problem> {
        let mut actions = Vec::new();
        match input {
            Input::Start => self.start(now_ms, &mut actions),
            Input::Lease(event) => self.lease(event, now_ms, &mut actions),
            Input::Mounted { client, image } => self.mounted(client, image, &mut actions),
            Input::Boot { node, image } => self.boot(&node, &image, now_ms, &mut actions)?,
            Input::Rename { device, name } => self.rename(&device, &name, &mut actions)?,
            Input::Forget { device } => self.forget(&device, now_ms, &mut actions)?,
            Input::Create { mac, name, config } => self.create(mac, &name, &config, now_ms, &mut actions)?,
            Input::Configure { device, changes } => self.configure(&device, &changes, &mut actions)?,
            Input::NatSet { result } => self.nat_set(&result, &mut actions),
            Input::Clone { name, architecture } => self.clone_image(&name, architecture, &mut actions),
            // News alone: they come from elsewhere than what begins and ends jobs, and decide nothing.
            Input::Progress { key, done, total } => {
                self.progress(&key, done, total, &mut actions);
                return Ok(actions);
            }
            Input::Retrying { key, cause } => {
                self.retrying(&key, cause, &mut actions);
                return Ok(actions);
            }
            Input::Pulled { key, result } => self.pulled(&key, result, now_ms, &mut actions),
            Input::Imported { name, images } => self.imported(&name, images, now_ms, &mut actions),
            Input::Prepared { name, digest, result } => self.prepared(&name, &digest, result, now_ms, &mut actions),
            Input::Linked { mac, result } => self.linked(mac, result, &mut actions),
            Input::Remove { name } => self.remove(&name, &mut actions)?,
            Input::Collected { done } => {
                self.collecting = false;
                // Not at once: with whatever happens next.
                if !done {
                    self.garbage = true;
                    return Ok(actions);
                }
            }
            Input::Tick => {}
        }
        self.retry(now_ms, &mut actions);
        if self.garbage && !self.collecting && !self.images.values().any(ImageEntry::is_busy) {
            self.garbage = false;
            self.collecting = true;
            actions.push(Action::CollectGarbage);
        }
        Ok(actions)
    }

    /// A device.
    pub fn device(&self, mac: MacAddr) -> Option<&Device> {
        self.devices.get(&mac)
    }

    /// All devices, in the order of their addresses.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// All images, in the order of their names.
    pub fn images(&self) -> impl Iterator<Item = (&str, &ImageEntry)> {
        self.images.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The image of this full name.
    pub fn image(&self, full_name: &str) -> Option<&ImageEntry> {
        self.images.get(full_name)
    }

    /// Digests that have a name, and ids that a node is served or holds: all that must be kept.
    pub fn in_use(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let digests = self.variants().filter_map(|(_, variant)| variant.digest().map(str::to_owned)).collect();
        let served = self.devices.values().filter_map(|device| device.row.served.clone());
        let held = self.devices.values().flat_map(|device| device.row.held.iter().cloned());
        let prepared = self.variants().filter_map(|(_, variant)| Some(variant.ready()?.image_id.clone()));
        (digests, served.chain(held).chain(prepared).collect())
    }

    fn start(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let wanted: BTreeSet<_> = self.keys_of_nodes().map(|(key, _)| key).collect();
        for key in wanted {
            self.ensure(&key, now_ms, actions);
        }
        actions.extend(self.devices.keys().map(|mac| Action::Configured(*mac)));
    }

    fn lease(&mut self, event: LeaseEvent, now_ms: i64, actions: &mut Vec<Action>) {
        let mac = event.mac;
        if self.was_removed(mac, now_ms) {
            return;
        }
        // Our first stage asks so on a board that it does not know.
        let board = names::board_of_class(&event.vci, &event.uci);
        let model = names::model_of_class(&event.vci, &event.uci).filter(|said| !said.starts_with("unknown-"));
        let model = model.map(str::to_owned);
        let before = self.devices.get(&mac).map(|device| device.row.clone());
        let mut row = before.clone().unwrap_or_else(|| DeviceRow {
            mac,
            ip: event.ip,
            name: self.free_name("unknown", mac),
            model: None,
            board: None,
            host_name: String::new(),
            first_seen: now_ms / 1000,
            last_seen: now_ms / 1000,
            image: None,
            served: None,
            served_as: None,
            held: Vec::new(),
            runs_as: None,
            is_virtual: false,
            config: BTreeMap::new(),
        });
        row.ip = event.ip;
        row.last_seen = now_ms / 1000;
        if !event.host_name.is_empty() {
            row.host_name.clone_from(&event.host_name);
        }
        if let Some(model) = &model {
            self.becomes_node(&mut row, model);
        }
        let new_board = board.is_some() && board != row.board;
        row.board = board.or(row.board).filter(|_| row.model.is_none());
        let is_node = row.model.is_some();
        let moved =
            before.as_ref().is_none_or(|old| (old.ip, &old.name, &old.model) != (row.ip, &row.name, &row.model));
        let new_node = is_node && before.as_ref().is_none_or(|old| old.model.is_none());
        self.devices.entry(mac).or_insert_with(|| Device { row: row.clone(), problem: None }).row = row.clone();
        actions.push(Action::Save(mac));
        if is_node {
            actions.push(Action::Export(mac));
        }
        if is_node && moved {
            actions.push(Action::Link(mac));
        }
        // Each boot of a node tells it, so that each timeline is whole.
        let detail = match (row.model.as_deref(), new_node) {
            (Some(of), true) => Some(format!("{} is a new node, a {of}", row.name)),
            (Some(of), false) if model.is_some() => Some(format!("{} is a {of}", row.name)),
            (None, _) if before.is_none() && row.board.is_none() => Some(format!("{} is an unknown device", row.name)),
            _ => None,
        };
        if let Some(detail) = detail {
            actions.push(Action::Note { mac, step: "registered", detail, ok: true });
        }
        if let Some(board) = row.board.filter(|_| new_board) {
            let detail = format!("no model is known for the board {board}, so no image is served to {}", row.name);
            actions.push(Action::Note { mac, step: "registered", detail, ok: false });
        }
        actions.push(Action::Hook(event));
        let key = self.devices.get(&mac).and_then(Device::image_key);
        if let (Some(key), true) = (key, model.is_some()) {
            self.ensure(&key, now_ms, actions);
            if !self.deliver_to(mac, actions) {
                self.tell_served(mac, &key, actions);
            }
        }
    }

    /// The bootloader of a node runs: whatever OS it ran before is gone, and so is its hold on
    /// the images which that had mounted.
    fn becomes_node(&mut self, row: &mut DeviceRow, model: &str) {
        if row.model.as_deref() != Some(model) {
            let default_before = row.model.as_deref().map(|old| (self.default_image)(old));
            if row.image.is_none() || row.image == default_before {
                row.image = Some((self.default_image)(model));
            }
            if row.model.is_none() {
                row.name = self.free_name("node", row.mac);
            }
            row.model = Some(model.to_owned());
        }
        self.garbage |= row.held.iter().any(|id| row.served.as_ref() != Some(id));
        row.held.clear();
        row.runs_as = None;
    }

    /// `<prefix>-<last 6 hex digits of mac>`, or all 12 where another device has that name.
    pub(super) fn free_name(&self, prefix: &str, mac: MacAddr) -> String {
        let hex: String = mac.to_string().split(':').collect();
        let short = format!("{prefix}-{}", &hex[6..]);
        let taken = self.devices.values().any(|device| device.row.name == short && device.row.mac != mac);
        if taken { format!("{prefix}-{hex}") } else { short }
    }

    fn mounted(&mut self, client: Ipv4Addr, image: String, actions: &mut Vec<Action>) {
        let Some(device) = self.devices.values().find(|device| device.row.ip == client) else { return };
        let mac = device.row.mac;
        if device.row.held.last() == Some(&image) {
            return;
        }
        // It may be served another one since.
        let served_as = device.row.served_as.clone().filter(|_| device.row.served.as_ref() == Some(&image));
        let runs_as = served_as.or_else(|| self.name_of(&image));
        if let Some(device) = self.devices.get_mut(&mac) {
            device.row.held.retain(|held| *held != image);
            device.row.held.push(image);
            device.row.runs_as = runs_as;
            actions.extend([Action::Save(mac), Action::Export(mac)]);
        }
    }

    fn boot(&mut self, node: &str, image: &str, now_ms: i64, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(node)?;
        let row = &self.devices[&mac].row;
        let Some(model) = row.model.clone() else {
            let (why, hint) = match &row.board {
                Some(board) => (
                    format!("no model is known for its board, {board}"),
                    "docs/adding-a-board.md tells how a board is added; `walt node show` lists the nodes",
                ),
                None => ("it has never said walt.node.<model> to DHCP".into(), "`walt node show` lists the nodes"),
            };
            return Err(Problem {
                kind: ProblemKind::UnknownNode,
                message: format!("{} is not a node: {why}", row.name),
                hint: Some(hint.into()),
            });
        };
        let default = (self.default_image)(&model);
        let name = if image == "default" { default.clone() } else { self.find_image_or(image, &default)? };
        let key = ImageKey { name: name.clone(), wanted: Wanted::by_model(&model) };
        let entry = self.images.get(&name);
        let content = entry.and_then(|entry| entry.content_for(&key.wanted));
        let cause = match content {
            Some(content) => unsuitable(&name, content, &model),
            None => entry
                .and_then(|entry| entry.offered_to_others(&key.wanted))
                .map(|offered| format!("image {name} has no variant for a {model}, but for {offered}")),
        };
        if let Some(message) = cause {
            return Err(Problem {
                kind: ProblemKind::UnsuitableImage,
                message,
                hint: Some("`walt image show` lists the images and their models".into()),
            });
        }
        if let Some(device) = self.devices.get_mut(&mac) {
            device.row.image = Some(name.clone());
            device.problem = None;
        }
        actions.push(Action::Save(mac));
        self.ensure_now(&key, now_ms, actions);
        self.deliver_to(mac, actions);
        Ok(())
    }

    fn linked(&mut self, mac: MacAddr, result: Result<(), String>, actions: &mut Vec<Action>) {
        let Some(device) = self.devices.get_mut(&mac) else { return };
        match result {
            Ok(()) => {
                if matches!(device.problem, Some(("links", _))) {
                    device.problem = None;
                }
            }
            Err(cause) => {
                actions.push(Action::Note { mac, step: "links", detail: cause.clone(), ok: false });
                device.problem = Some(("links", cause));
            }
        }
    }
}
