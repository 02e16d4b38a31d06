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

use std::sync::Arc;

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

    /// Brings up to date what the node may mount and use.
    ///
    /// While its OS runs that stays as it is: whoever rules the node's next OS has nothing to fear from this one.
    pub(super) fn give_persist(&self, row: &DeviceRow) {
        self.give(row.mac, !row.held.is_empty(), self.persist_name(row));
    }

    fn give(&self, mac: MacAddr, is_up: bool, name: Option<String>) {
        if is_up {
            return;
        }
        let persist = self.exports.persist();
        let Some(tree) = self.persist.get() else {
            // What a node is told then: that this fails, not that there is none.
            persist.want(mac, name.as_deref());
            return;
        };
        // Its bootloader runs: whatever was mounted is not any more.
        let mut gone = persist.release(mac);
        let wanted = persist.want(mac, name.as_deref());
        gone.extend(wanted.replaced);
        let open = name.filter(|_| wanted.must_open);
        if open.is_none() && gone.is_empty() {
            return;
        }
        let (tree, exports) = (Arc::clone(tree), Arc::clone(&self.exports));
        // Done long before the node, which has its OS to load first, asks for it.
        tokio::task::spawn_blocking(move || {
            gone.iter().for_each(|directory| directory.let_go());
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
        let Some(tree) = self.persist.get() else { return };
        let (tree, exports) = (Arc::clone(tree), Arc::clone(&self.exports));
        let opened = tokio::task::spawn_blocking(move || {
            let node = mac.to_string();
            let in_use = tree.in_use(&node);
            // One that is up may mount what it was to have when it left its bootloader.
            let name = if is_up { name.filter(|name| in_use.contains(name)).or(in_use.first().cloned()) } else { name };
            exports.persist().want(mac, name.as_deref());
            if let Some(name) = &name {
                open_directory(&tree, &exports, mac, name);
            }
            for old in in_use.iter().filter(|old| name.as_ref() != Some(old)) {
                match tree.directory(&node, old) {
                    Ok(directory) if is_up => exports.persist().hold(mac, directory),
                    Ok(directory) => directory.let_go(),
                    Err(error) => tracing::error!(%mac, %error, "the node has this /persist no more"),
                }
            }
        });
        if let Err(panic) = opened.await {
            tracing::error!(%mac, %panic, "the node gets no /persist");
        }
    }

    /// Name of the directory that the node is to have; `None` if it is to have none.
    fn persist_name(&self, row: &DeviceRow) -> Option<String> {
        if config::value(row, SETTING) != "true" {
            return None;
        }
        let state = self.state();
        let owner = state.registrar.device(row.mac).and_then(|device| state.registrar.owner(device))?;
        Some(directory_name(owner))
    }
}

/// Opens what the node is to have.
fn open_directory(tree: &Arc<HostTree>, exports: &Exports, mac: MacAddr, name: &str) {
    match tree.directory(&mac.to_string(), name) {
        Ok(directory) => {
            directory.mark();
            if !exports.persist().set(mac, Arc::clone(&directory)) {
                // It is to have another by now.
                directory.let_go();
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
        site.give(mac, true, name("bob"));
        assert_eq!(may_mount(), name("ada"), "her OS runs");
        site.give(mac, false, name("bob"));
        eventually("bob's is open", &|| may_mount() == name("bob")).await;
        eventually("ada's is let go", &|| !is_marked("ada")).await;
        // A restart of the server while bob's OS runs, and the next one is to be ada's.
        persist().remove(mac);
        site.give_again(mac, true, name("ada")).await;
        assert_eq!(may_mount(), name("bob"));
        // And one while it is off.
        persist().remove(mac);
        site.give_again(mac, false, name("ada")).await;
        assert_eq!(may_mount(), name("ada"));
        assert!(is_marked("ada") && !is_marked("bob"));
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
