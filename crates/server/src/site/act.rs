//! Carries out what registration has decided.

use std::sync::Arc;

use net::{Device, MacAddr, NodeExport};
use tokio::sync::mpsc;

use super::Site;
use crate::links::{self, NodeLinks};
use crate::machines::Spec;
use crate::registration::config::is_behind_nat;
use crate::registration::{Action, Failure, ImageKey, Input};
use crate::registry::DeviceRow;
use crate::timeline::Seen;

impl Site {
    pub(super) fn act(self: &Arc<Self>, action: Action) {
        match action {
            Action::Save(mac) => {
                let row = self.state().registrar.device(mac).map(|device| device.row.clone());
                if let Some(row) = row {
                    self.exports.devices().set(described(&row));
                    self.registry.device(row);
                }
            }
            Action::Forget(mac) => self.forget(mac),
            Action::Configured(mac) => self.configured(mac),
            Action::SaveImage(row) => self.registry.image(row),
            Action::ForgetImage(key) => self.registry.remove_image(key),
            Action::Pull(key) => self.pull(key),
            Action::Prepare { name, digest } => self.prepare(name, digest),
            Action::Export(mac) => self.export(mac),
            // Fails only when the daemon stops.
            Action::Link(mac) => drop(self.links.send(mac)),
            Action::Note { mac, step, detail, ok } => self.see(mac, &Seen::Registration { step, detail, ok }),
            Action::Hook(event) => self.hooks.lease(event),
            Action::CollectGarbage => self.collect_garbage(),
        }
    }

    /// Brings up to date what follows a device's settings.
    fn configured(&self, mac: MacAddr) {
        self.export(mac);
        let row = self.state().registrar.device(mac).map(|device| device.row.clone());
        if let Some(row) = row.filter(|row| row.is_virtual) {
            self.machines.configure(mac, Spec::of(&row));
        }
    }

    fn forget(&self, mac: MacAddr) {
        self.tell(format!("{mac} is forgotten"));
        let links = {
            let mut state = self.state();
            state.timelines.remove(&mac);
            state.topology.forget(mac)
        };
        self.record_links(links);
        self.exports.remove(mac);
        self.machines.remove(mac);
        self.exports.devices().remove(mac);
        self.take_persist(mac);
        self.registry.forget_device(mac);
        // Fails only when the daemon stops.
        let _ = self.links.send(mac);
    }

    /// Brings the services' table up to date for this node.
    pub fn export(&self, mac: MacAddr) {
        let row = self.state().registrar.device(mac).map(|device| device.row.clone());
        // A virtual node that was never on has no address yet.
        let Some(row) = row.filter(|row| !row.ip.is_unspecified()) else { return };
        let Some(model) = row.model.clone() else { return };
        self.give_persist(&row);
        let image = row.served.as_ref().and_then(|id| self.images.view(id));
        let held = row.held.iter().filter_map(|id| self.images.view(id)).collect();
        self.exports.set(NodeExport { mac, ip: row.ip, name: row.name, model, image, held });
    }

    /// Sets links, one node after the other, away from the task that decides.
    pub(super) async fn set_links(self: Arc<Self>, mut nodes: mpsc::UnboundedReceiver<MacAddr>) {
        while let Some(mac) = nodes.recv().await {
            let node = self.node_links(mac);
            let root = self.state_dir.clone();
            let work = move || match node {
                Some(node) => links::set(&root, &node),
                None => links::forget(&root, mac),
            };
            let result = tokio::task::spawn_blocking(work).await;
            let result = match result {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("setting links: {panic}")),
            };
            self.report(Input::Linked { mac, result }).await;
        }
    }

    fn node_links(&self, mac: MacAddr) -> Option<NodeLinks> {
        let state = self.state();
        let row = &state.registrar.device(mac)?.row;
        if row.ip.is_unspecified() {
            return None;
        }
        Some(NodeLinks {
            mac,
            ip: row.ip,
            name: row.name.clone(),
            model: row.model.clone()?,
            image_id: row.served.clone(),
        })
    }

    /// The links of all nodes.
    pub fn all_links(&self) -> Vec<NodeLinks> {
        let nodes: Vec<_> = self.state().registrar.devices().map(|device| device.row.mac).collect();
        nodes.into_iter().filter_map(|mac| self.node_links(mac)).collect()
    }

    fn pull(self: &Arc<Self>, key: ImageKey) {
        let (site, of) = (self.clone(), key.clone());
        let job = tokio::spawn(async move { site.images.pull(&site, &of).await });
        let site = self.clone();
        tokio::spawn(async move {
            let result = job.await.unwrap_or_else(|panic| Err(panicked("pull", &panic)));
            site.report(Input::Pulled { key, result }).await;
        });
    }

    fn prepare(self: &Arc<Self>, name: String, digest: String) {
        let (site, of, wanted) = (self.clone(), name.clone(), digest.clone());
        let job = tokio::spawn(async move { site.images.prepare(&of, &wanted).await });
        let site = self.clone();
        tokio::spawn(async move {
            let result = job.await.unwrap_or_else(|panic| Err(panicked("prepare", &panic)));
            site.report(Input::Prepared { name, digest, result }).await;
        });
    }

    fn collect_garbage(self: &Arc<Self>) {
        let (digests, ids) = self.state().registrar.in_use();
        let digests = digests.iter().filter_map(|digest| digest.parse().ok()).collect();
        let site = self.clone();
        let job = tokio::spawn(async move { site.images.collect_garbage(digests, ids.into_iter().collect()).await });
        let site = self.clone();
        tokio::spawn(async move {
            let done = job.await.unwrap_or(true);
            site.report(Input::Collected { done }).await;
        });
    }

    /// News of a pull: for those who look. It begins and ends nothing, so it need not wait its turn.
    pub(super) fn pull_news(&self, news: Input) {
        let notes = self.state().registrar.handle(news, super::now_ms()).unwrap_or_default();
        for note in notes {
            if let Action::Note { mac, step, detail, ok } = note {
                self.see(mac, &Seen::Registration { step, detail, ok });
            }
        }
        self.tell_waiting();
    }
}

impl Site {
    /// Ends machines whose nodes are known no more: before their nodes could come as new ones.
    pub async fn end_stray_machines(&self) {
        let known = {
            let state = self.state();
            let rows = state.registrar.devices().map(|device| &device.row);
            rows.filter(|row| row.is_virtual).map(|row| row.mac).collect()
        };
        self.machines.end_strangers(&known).await;
    }

    /// Opens again what nodes were served and hold, and tells the services: before these answer.
    pub async fn reopen(&self) {
        let (_, ids) = self.state().registrar.in_use();
        self.images.reopen(ids).await;
        let mut rows: Vec<_> = self.state().registrar.devices().map(|device| device.row.clone()).collect();
        // An address is that of the device which had it last.
        rows.sort_by_key(|row| row.last_seen);
        for row in rows {
            self.exports.devices().set(described(&row));
            self.reopen_persist(row.mac).await;
            self.export(row.mac);
        }
    }
}

/// A device as the network services know it, node or not.
fn described(row: &DeviceRow) -> Device {
    Device { mac: row.mac, ip: row.ip, name: row.name.clone(), behind_nat: is_behind_nat(row) }
}

/// A job that panicked must not look like one that goes on for ever.
fn panicked(step: &'static str, panic: &tokio::task::JoinError) -> Failure {
    Failure { step, cause: format!("a fault of the server itself: {panic}"), transient: true }
}
