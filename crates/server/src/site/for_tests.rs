//! A site for the tests of other parts: nothing that it would pull is there, and no machine is made.

use std::net::Ipv4Addr;
use std::sync::Arc;

use net::{Events, Exports};

use super::{Images, Site};
use crate::hooks::Hooks;
use crate::machines::tests::machines;
use crate::registry::{Registry, Retention, Writer};
use crate::server_files::{Network, ServerIdentity};

/// A site that decides, with what must live as long as it.
pub(crate) async fn site() -> (Arc<Site>, (tempfile::TempDir, Writer)) {
    let dir = tempfile::tempdir().unwrap();
    let store = image::Store::open(dir.path()).unwrap();
    let (registry, writer, loaded) = Registry::open(&dir.path().join("walt.db"), Retention::default()).unwrap();
    let network =
        Network { server_ip: Ipv4Addr::LOCALHOST, server_mac: [2; 6], name_servers: Vec::new(), domain: None };
    let identity = ServerIdentity::gather(&dir.path().join("keys"), dir.path().into(), network).unwrap();
    let registries = image::RegistrySettings { attempts: 1, ..Default::default() };
    let images = Images::new(store, identity, registries);
    let default = |_: &str| "127.0.0.1:1/no/image:latest".to_owned();
    let (site, inbox) = Site::new(
        &loaded,
        default,
        registry.clone(),
        Exports::default().into(),
        images,
        Hooks::new(None),
        machines(dir.path(), registry),
        dir.path().into(),
    );
    let (sender, events) = Events::channel(8);
    let of_task = site.clone();
    tokio::spawn(async move {
        // A closed channel would end the site.
        let _open = sender;
        of_task.run(events, inbox).await;
    });
    (site, (dir, writer))
}
