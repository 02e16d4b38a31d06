//! Sets of nodes, as people write them: `n1,n2`, `my-nodes`, `free-nodes`, `all-nodes`.

use std::collections::BTreeSet;

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::{Device, Registrar};
use crate::names;
use crate::registry::DeviceRow;

/// Whom a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: it boots the default image of its model.
    Nobody,
    /// The user whose image it boots.
    User(String),
    /// It boots an image that is no user's, and not the default one of its model.
    Unnamed,
}

impl Registrar {
    /// Whom a node belongs to; `None` for a device that is none.
    pub fn owner(&self, device: &Device) -> Option<Owner> {
        let model = device.row.model.as_deref()?;
        Some(self.owner_by(model, device.row.image.as_deref().unwrap_or_default()))
    }

    /// Whom the OS belongs to that a node runs, or is going to run if its bootloader does; `None` if there is none yet.
    pub fn owner_of_system(&self, row: &DeviceRow) -> Option<Owner> {
        let image = if row.held.is_empty() { &row.served_as } else { &row.runs_as };
        Some(self.owner_by(row.model.as_deref()?, image.as_deref()?))
    }

    fn owner_by(&self, model: &str, image: &str) -> Owner {
        if image.is_empty() || (self.default_image)(model) == image {
            Owner::Nobody
        } else {
            names::owner_of_image(image).map_or(Owner::Unnamed, |user| Owner::User(user.to_owned()))
        }
    }

    /// Full name of the default image of a model.
    pub fn default_image(&self, model: &str) -> String {
        (self.default_image)(model)
    }

    /// The devices of a set, by name: names, macs and ips, and the keywords `my-nodes`, `free-nodes`, `all-nodes`,
    /// `all-switches` and `all-devices`, with commas between them.
    ///
    /// # Errors
    /// One of them is not there, or the set is empty.
    pub fn find_set(&self, text: &str, user: &str) -> Result<Vec<MacAddr>, Problem> {
        let mut found = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let owned = |device: &&Device, wanted: &Owner| self.owner(device).as_ref() == Some(wanted);
            let nodes: Vec<&Device> = match part {
                "my-nodes" => {
                    let mine = Owner::User(user.to_owned());
                    self.devices().filter(|device| owned(device, &mine)).collect()
                }
                "free-nodes" => self.devices().filter(|device| owned(device, &Owner::Nobody)).collect(),
                "all-nodes" => self.devices().filter(|device| device.row.model.is_some()).collect(),
                "all-switches" => self.devices().filter(|device| super::switches::is_switch(&device.row)).collect(),
                "all-devices" => self.devices().collect(),
                name => self.devices.get(&self.find_node(name)?).into_iter().collect(),
            };
            found.extend(nodes.into_iter().map(|device| (device.row.name.clone(), device.row.mac)));
        }
        if found.is_empty() {
            let (message, hint) = match text {
                "my-nodes" => (
                    format!("no node boots an image of yours ({user})"),
                    "name nodes, or say free-nodes or all-nodes; `walt node show --all` lists them",
                ),
                _ => (format!("there is no node in {text:?}"), "`walt node show --all` lists the nodes"),
            };
            return Err(Problem { kind: ProblemKind::UnknownNode, message, hint: Some(hint.into()) });
        }
        Ok(found.into_iter().map(|(_, mac)| mac).collect())
    }
}
