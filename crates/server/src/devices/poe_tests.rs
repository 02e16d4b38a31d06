//! Ports that are without power, against a switch that does what it is told.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use net::{LeaseEvent, MacAddr};
use tokio::net::UdpSocket;

use super::super::{Here, Off, restore};
use super::*;
use crate::hooks::Hooks;
use crate::registration::Input;
use crate::registry::Loaded;
use crate::site::{Site, for_tests};

const SWITCH: MacAddr = MacAddr([2, 0, 0, 0, 9, 1]);
const PORT: PowerPort = (1, 3);

/// A switch that says yes to all: what it was told to set, with what `look` saw just then.
async fn switch<T: Send + 'static>(look: impl Fn() -> T + Send + 'static) -> (u16, Arc<Mutex<Vec<(i32, T)>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (port, told) = (socket.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let of_task = told.clone();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            // RFC 1157 §4: a sequence of version, community, PDU. An answer is the same with another kind of PDU.
            let kind = 7 + usize::from(packet[6]);
            // SetRequest; the value comes last.
            if packet[kind] == 0xa3 {
                of_task.lock().unwrap().push((packet[length - 1].into(), look()));
            }
            packet[kind] = 0xa2;
            socket.send_to(&packet[..length], from).await.unwrap();
        }
    });
    (port, told)
}

async fn set(site: &Site, changes: &[(&str, &str)]) {
    let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    site.request(Input::Configure { device: SWITCH.to_string(), changes }).await.unwrap();
}

/// Something at this port of ours, which was declared a switch.
async fn declare(site: &Site, port: u16) {
    let ip = Ipv4Addr::LOCALHOST;
    let lease = LeaseEvent { mac: SWITCH, ip, vci: String::new(), uci: String::new(), host_name: String::new() };
    site.request(Input::Lease(lease)).await.unwrap();
    let port = port.to_string();
    set(site, &[("type", "switch"), ("snmp.community", "private"), ("snmp.port", &port), ("lldp.explore", "true")])
        .await;
}

fn devices(site: &Arc<Site>, off: Off) -> Arc<Devices> {
    let ip = Ipv4Addr::LOCALHOST;
    let here = Here { interface: "lo".into(), index: 1, mac: MacAddr([2; 6]), ip, prefix: 8 };
    Devices::new(site.clone(), here, Hooks::new(None), off)
}

/// What a daemon before has left off.
fn left_off() -> Off {
    let text = format!("{SWITCH} {} {}\n", PORT.0, PORT.1);
    restore(&Loaded { meta: BTreeMap::from([(MEMORY.to_owned(), text.into_bytes())]), ..Loaded::default() })
}

/// What the registry's file says of ports without power.
fn on_disk(path: &Path) -> String {
    let db = rusqlite::Connection::open(path).unwrap();
    let kept = db.query_row("SELECT value FROM meta WHERE key = ?", [MEMORY], |row| row.get::<_, Vec<u8>>(0));
    String::from_utf8(kept.unwrap_or_default()).unwrap()
}

#[tokio::test]
async fn the_community_goes_to_the_address_that_people_gave_whoever_has_the_lease() {
    let (site, _keep) = for_tests::site().await;
    let (port, told) = switch(|| ()).await;
    declare(&site, port).await;
    // Somebody else gets a lease with the switch's mac.
    let ip = Ipv4Addr::new(192, 0, 2, 7);
    let lease = LeaseEvent { mac: SWITCH, ip, vci: String::new(), uci: String::new(), host_name: String::new() };
    site.request(Input::Lease(lease)).await.unwrap();
    set(&site, &[("snmp.address", "127.0.0.1")]).await;
    let devices = devices(&site, left_off());
    devices.restore_power().await;
    assert_eq!((devices.left_off(), told.lock().unwrap().len()), (vec![], 1));
}

#[tokio::test]
async fn power_is_given_back_even_where_it_may_not_be_cut_any_more() {
    let (site, _keep) = for_tests::site().await;
    let (port, told) = switch(|| ()).await;
    declare(&site, port).await;
    let devices = devices(&site, left_off());
    // poe.reboots is false.
    devices.restore_power().await;
    assert_eq!(*told.lock().unwrap(), [(ON, ())]);
    assert_eq!(devices.left_off(), []);
}

#[tokio::test]
async fn a_port_of_what_is_no_switch_any_more_is_not_forgotten() {
    let (site, (dir, _writer)) = for_tests::site().await;
    let (port, told) = switch(|| ()).await;
    let devices = devices(&site, left_off());
    devices.restore_power().await;
    devices.restore_power().await;
    declare(&site, port).await;
    set(&site, &[("type", "unknown")]).await;
    devices.restore_power().await;
    devices.restore_power().await;
    assert_eq!((devices.left_off(), told.lock().unwrap().len()), (vec![(SWITCH, PORT)], 0));
    site.registry().settle_logs().await;
    let lines = site.registry().log_reader().unwrap().since(0, 99).unwrap();
    let mut said = lines.iter().map(|kept| kept.row.line.as_str()).filter(|line| line.contains("port 1.3"));
    assert!(said.next().unwrap().contains("forgotten"), "{lines:?}");
    assert!(said.next().unwrap().contains("not declared a switch"), "{lines:?}");
    assert_eq!(said.next(), None, "once each");
    declare(&site, port).await;
    devices.restore_power().await;
    assert_eq!((devices.left_off(), told.lock().unwrap().len()), (vec![], 1));
    drop(dir);
}

#[tokio::test]
async fn what_is_switched_off_is_on_the_disk_before() {
    let (site, (dir, _writer)) = for_tests::site().await;
    let path = dir.path().join("walt.db");
    let at = path.clone();
    let (port, told) = switch(move || on_disk(&at)).await;
    declare(&site, port).await;
    let devices = devices(&site, Off::default());
    let row = site.state().registrar.device(SWITCH).unwrap().row.clone();
    let session = Access::of(&row).open().await.unwrap();
    let time = Duration::from_millis(1);
    devices.without_power(&row, &row, &session, PORT, (3, "g3"), time).await.unwrap();
    let recorded = format!("{SWITCH} 1 3\n");
    assert_eq!(*told.lock().unwrap(), [(OFF, recorded.clone()), (ON, recorded)]);

    // Nothing is switched off that could be forgotten.
    let full = "CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT RAISE(FAIL, 'the disk is full'); END";
    rusqlite::Connection::open(&path).unwrap().execute_batch(full).unwrap();
    let blocked = devices.without_power(&row, &row, &session, PORT, (3, "g3"), time).await.unwrap_err();
    assert!(matches!(&blocked, Blocked::NoWay(reason) if reason.contains("the disk is full")), "{blocked:?}");
    assert_eq!((told.lock().unwrap().len(), devices.left_off()), (2, vec![]));
}
