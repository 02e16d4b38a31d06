//! `/persist`: which directory of this machine each node keeps its files in.
//!
//! ```text
//! persist/<mac>/<user>/            what the node sees as /persist while it boots an image of this user
//! persist/<mac>/_free/             the same while it boots the default image of its model
//! persist/<mac>/_other/            the same while it boots another image that is no user's
//! persist/<mac>/.replies/<user>    answers that may have been lost; there while the node may have the directory mounted
//! ```
//!
//! `persist` is root's alone. Nothing of it is ever removed by the daemon: not when the node goes to another user, nor
//! when it is forgotten.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net::nfs::HostTree;
use net::{Exports, MacAddr};

use super::Site;
use crate::registration::{Owner, config};
use crate::registry::DeviceRow;

/// Setting of a node: whether it has `/persist`.
const SETTING: &str = "mount.persist";
/// Room that nodes leave for the server on its disk, as a multiple of what images leave: who fills `/persist` must neither
/// stop the registry nor keep the next image from being pulled.
const RESERVES: u64 = 4;

impl Site {
    /// Makes ready to serve `/persist`. Where that can't be, everything else works, and nodes do without. `reserve`:
    /// bytes that images leave free.
    pub async fn open_persist(&self, reserve: u64) {
        let path = self.state_dir.join("persist");
        let opened = tokio::task::spawn_blocking(move || {
            let mut verifier = [0; 8];
            let random = rustix::rand::getrandom(&mut verifier, rustix::rand::GetRandomFlags::empty());
            random.map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
            Ok(HostTree::open(&path, reserve.saturating_mul(RESERVES), u64::from_be_bytes(verifier))?)
        });
        match opened.await.unwrap_or_else(|panic| Err(anyhow::anyhow!("a fault of the server itself: {panic}"))) {
            // Set once, at the start.
            Ok(tree) => drop(self.persist.set(tree)),
            Err(error) => tracing::error!(error = format!("{error:#}"), "nodes get no /persist"),
        }
    }

    /// Brings up to date what the node may mount and use: what belongs to the owner of the OS that it runs, or is going to
    /// run if its bootloader does.
    pub(super) fn give_persist(&self, row: &DeviceRow) {
        self.give(row.mac, !row.held.is_empty(), self.persist_name(row));
    }

    fn give(&self, mac: MacAddr, is_up: bool, name: Option<String>) {
        let persist = self.exports.persist();
        let Some(tree) = self.persist.get() else {
            // What a node is told then: that this fails, not that there is none.
            persist.want(mac, name.as_deref());
            return;
        };
        // When its bootloader runs, whatever was mounted is not any more.
        let mut gone = if is_up { Vec::new() } else { persist.release(mac) };
        let wanted = persist.want(mac, name.as_deref());
        gone.extend(wanted.replaced);
        let gone: Vec<String> = gone.iter().map(|directory| directory.name().to_owned()).collect();
        let open = name.filter(|_| wanted.must_open);
        if open.is_none() && gone.is_empty() {
            return;
        }
        let (tree, exports) = (Arc::clone(tree), Arc::clone(&self.exports));
        // Done long before the node, which has its OS to load first, asks for it.
        tokio::task::spawn_blocking(move || {
            let _turn = turn();
            for_others(&exports, mac, &gone, |name| tree.let_go(&mac.to_string(), name));
            if let Some(name) = open {
                open_directory(&tree, &exports, mac, &name);
            }
        });
    }

    /// As [`give_persist`](Self::give_persist), at the start, before anything is served: the node may be up, and go on
    /// using what it had mounted.
    pub(super) async fn reopen_persist(&self, mac: MacAddr) {
        let row = self.state().registrar.device(mac).map(|device| device.row.clone());
        if let Some(row) = row.filter(|row| row.model.is_some()) {
            self.give_again(mac, !row.held.is_empty(), self.persist_name(&row)).await;
        }
    }

    async fn give_again(&self, mac: MacAddr, is_up: bool, name: Option<String>) {
        self.exports.persist().want(mac, name.as_deref());
        let Some(tree) = self.persist.get() else { return };
        let (tree, exports) = (Arc::clone(tree), Arc::clone(&self.exports));
        let opened = tokio::task::spawn_blocking(move || {
            let _turn = turn();
            let node = mac.to_string();
            let in_use = tree.in_use(&node);
            if let Some(name) = &name {
                open_directory(&tree, &exports, mac, name);
                if is_up && in_use.contains(name) {
                    // It may have it mounted, and keeps it then, whatever becomes of its settings.
                    exports.persist().mount(mac);
                }
            }
            for_others(&exports, mac, &in_use, |old| {
                if !is_up {
                    return tree.let_go(&node, old);
                }
                match tree.directory(&node, old) {
                    Ok(directory) => exports.persist().hold(mac, directory),
                    Err(error) => tracing::error!(%mac, %error, "the node has this /persist no more"),
                }
            });
        });
        if let Err(panic) = opened.await {
            tracing::error!(%mac, %panic, "the node gets no /persist");
        }
    }

    /// The node is forgotten. What it has kept stays on disk: only a person removes that.
    pub(super) fn take_persist(&self, mac: MacAddr) {
        self.exports.persist().remove(mac);
        let Some(tree) = self.persist.get() else { return };
        let (tree, exports) = (Arc::clone(tree), Arc::clone(&self.exports));
        tokio::task::spawn_blocking(move || {
            let _turn = turn();
            let node = mac.to_string();
            for_others(&exports, mac, &tree.in_use(&node), |name| tree.let_go(&node, name));
        });
    }

    /// Name of the directory that the node is to have; `None` if it is to have none.
    fn persist_name(&self, row: &DeviceRow) -> Option<String> {
        if config::value(row, SETTING) != "true" {
            return None;
        }
        self.state().registrar.owner_of_system(row).map(directory_name)
    }
}

/// Opening and letting go is done by one thread at a time, so that the last one to do it knows what the node is to have.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does this with each of the directories, but for the one that the node is to have by now.
fn for_others(exports: &Exports, mac: MacAddr, names: &[String], act: impl Fn(&str)) {
    let wanted = exports.persist().wanted(mac);
    names.iter().filter(|name| Some(*name) != wanted.as_ref()).for_each(|name| act(name));
}

/// Opens what the node is to have.
fn open_directory(tree: &Arc<HostTree>, exports: &Exports, mac: MacAddr, name: &str) {
    let node = mac.to_string();
    match tree.directory(&node, name) {
        Ok(directory) => {
            directory.mark();
            if !exports.persist().set(mac, directory) {
                // It is to have another by now.
                tree.let_go(&node, name);
            }
        }
        Err(error) => tracing::error!(%mac, %error, "the node gets no /persist"),
    }
}

/// No user is called so: names of users begin with a letter or a digit.
fn directory_name(owner: Owner) -> String {
    match owner {
        Owner::User(user) => user,
        Owner::Nobody => "_free".to_owned(),
        Owner::Unnamed => "_other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_follows_its_owner_from_the_next_boot_on() {
        let (site, (dir, _writer)) = crate::site::for_tests::site().await;
        site.open_persist(0).await;
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let name = |user: &str| Some(user.to_owned());
        let persist = || site.exports.persist();
        let may_mount = || persist().mount(mac).map(|directory| directory.name().to_owned());
        let is_marked = |user: &str| dir.path().join(format!("persist/{mac}/.replies/{user}")).exists();
        let eventually = async |what: &str, is: &dyn Fn() -> bool| {
            for _ in 0..500 {
                if is() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("{what}: not yet");
        };
        site.give(mac, false, name("ada"));
        eventually("ada's is open", &|| may_mount() == name("ada")).await;
        assert!(is_marked("ada"));
        site.give(mac, false, name("bob"));
        eventually("bob's is open", &|| may_mount() == name("bob")).await;
        eventually("ada's is let go", &|| !is_marked("ada")).await;
        // A bootloader that we have not heard of: the OS before has it no less, as far as we know.
        let fsid_of_bob = persist().mount(mac).unwrap().fsid();
        site.give(mac, true, name("ada"));
        eventually("ada's is open", &|| may_mount() == name("ada")).await;
        assert!(persist().directory(mac, fsid_of_bob).is_some());
        // A restart of the server meanwhile.
        persist().remove(mac);
        site.give_again(mac, true, name("ada")).await;
        assert_eq!(may_mount(), name("ada"));
        assert!(persist().directory(mac, fsid_of_bob).is_some() && is_marked("bob"));
        // Another, and then it is to have none from its next boot on.
        let fsid_of_ada = persist().mount(mac).unwrap().fsid();
        persist().remove(mac);
        site.give_again(mac, true, name("ada")).await;
        site.give(mac, true, None);
        assert!(may_mount().is_none() && persist().directory(mac, fsid_of_ada).is_some(), "it has it still");
        // And one while it is off.
        persist().remove(mac);
        site.give_again(mac, false, name("ada")).await;
        assert_eq!(may_mount(), name("ada"));
        assert!(persist().directory(mac, fsid_of_bob).is_none() && is_marked("ada") && !is_marked("bob"));
        // There and back, at once.
        site.give(mac, false, name("bob"));
        site.give(mac, false, name("ada"));
        eventually("ada's is open", &|| may_mount() == name("ada") && is_marked("ada")).await;
        eventually("bob's is let go", &|| !is_marked("bob")).await;
        site.take_persist(mac);
        eventually("all are let go", &|| !is_marked("ada")).await;
        site.give(mac, false, name("ada"));
        eventually("ada's is open", &|| may_mount() == name("ada")).await;
        site.give(mac, false, None);
        assert_eq!(may_mount(), None);
        eventually("ada's is let go", &|| !is_marked("ada")).await;
    }

    #[test]
    fn nobody_s_directory_is_no_user_s() {
        for owner in [Owner::Nobody, Owner::Unnamed] {
            let name = directory_name(owner);
            let image = format!("docker.io/{name}/tiny:v1");
            assert!(crate::names::full_image_name(&image).is_err(), "{name} could be a user");
        }
        assert_eq!(directory_name(Owner::User("ada".into())), "ada");
    }
}
