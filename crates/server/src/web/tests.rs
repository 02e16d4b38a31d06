use std::net::Ipv4Addr;

use net::{LeaseEvent, MacAddr};

use super::*;
use crate::registration::Input;

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
