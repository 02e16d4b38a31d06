use std::net::Ipv4Addr;

use net::{Events, Exports, LeaseEvent, MacAddr};

use super::*;
use crate::hooks::Hooks;
use crate::machines::{Accelerator, Host, Machines};
use crate::registration::Input;
use crate::registry::{Registry, Retention, Writer};
use crate::server_files::{Network, ServerIdentity};
use crate::site::Images;

/// A site that decides, with what must live as long as it.
pub(super) async fn site() -> (Arc<Site>, (tempfile::TempDir, Writer)) {
    let dir = tempfile::tempdir().unwrap();
    let store = image::Store::open(dir.path()).unwrap();
    let (registry, writer, loaded) = Registry::open(&dir.path().join("walt.db"), Retention::default()).unwrap();
    let network =
        Network { server_ip: Ipv4Addr::LOCALHOST, server_mac: [2; 6], name_servers: Vec::new(), domain: None };
    let identity = ServerIdentity::gather(&dir.path().join("keys"), dir.path().into(), network).unwrap();
    let registries = image::RegistrySettings { attempts: 1, ..Default::default() };
    let images = Images::new(store, identity, registries);
    let host = Host {
        bridge: "lo".into(),
        state_dir: dir.path().into(),
        runtime_dir: dir.path().join("run"),
        user: "nobody".into(),
        accelerator: Accelerator::Tcg,
    };
    let machines = Machines::new(host, registry.clone());
    let (exports, hooks) = (Exports::default().into(), Hooks::new(None));
    let default = |_: &str| "127.0.0.1:1/no/image:latest".to_owned();
    let (site, inbox) = Site::new(&loaded, default, registry, exports, images, hooks, machines, dir.path().into());
    let (sender, events) = Events::channel(8);
    let of_task = site.clone();
    tokio::spawn(async move {
        // A closed channel would end the site.
        let _open = sender;
        of_task.run(events, inbox).await;
    });
    (site, (dir, writer))
}

/// A machine with this last byte in its MAC asks for its address as a PC.
pub(super) async fn register(site: &Site, last: u8) {
    let mac = MacAddr([2, 0, 0, 0, 0, last]);
    let ip = Ipv4Addr::new(10, 0, 0, last);
    let (vci, uci, host_name) = ("walt.node.pc-x86-64".to_owned(), String::new(), String::new());
    site.request(Input::Lease(LeaseEvent { mac, ip, vci, uci, host_name })).await.unwrap();
}

#[test]
fn every_route_is_described() {
    // The router itself can not be listed: each route of that file must be in the description.
    let source = include_str!("mod.rs");
    let described: Vec<_> = control::document().paths.paths.keys().cloned().collect();
    let routes: Vec<_> = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() >= 6);
    for route in routes.into_iter().filter(|route| *route != "/api/openapi.json") {
        assert!(described.iter().any(|path| path == route), "{route} is not in {described:?}");
    }
}
