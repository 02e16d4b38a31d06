//! What people change about devices: their names, and whether they are known at all.

use api::{Problem, ProblemKind};

use super::{Action, Registrar};
use crate::names;

impl Registrar {
    /// Gives a device another name.
    pub(super) fn rename(&mut self, device: &str, name: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        if !names::is_device_name(name) {
            return Err(Problem {
                kind: ProblemKind::BadRequest,
                message: format!("{name:?} can not be the name of a device"),
                hint: Some(
                    "a name has up to 63 lower-case letters, digits and dashes, begins with a letter, and does not mean \
                     something else already, as `server` or `my-nodes` do"
                        .into(),
                ),
            });
        }
        if let Some(other) = self.devices.values().find(|other| other.row.name == name && other.row.mac != mac) {
            let message = format!("there is a device {name} already, {}", other.row.mac);
            return Err(Problem { kind: ProblemKind::InUse, message, hint: None });
        }
        let Some(device) = self.devices.get_mut(&mac) else { return Ok(()) };
        name.clone_into(&mut device.row.name);
        actions.extend([Action::Save(mac), Action::Export(mac), Action::Link(mac)]);
        Ok(())
    }

    /// Forgets a device: when it asks for an address again, it is new.
    pub(super) fn forget(&mut self, device: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let mac = self.find_node(device)?;
        self.devices.remove(&mac);
        self.garbage = true;
        actions.push(Action::Forget(mac));
        Ok(())
    }
}
