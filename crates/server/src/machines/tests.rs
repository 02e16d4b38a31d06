use super::qemu::{Places, command, mac_of};
use super::*;

/// For tests of other parts: no machine is made.
pub(crate) fn machines(dir: &Path, registry: Registry) -> Machines {
    Machines::new(Host { state_dir: dir.into(), runtime_dir: dir.join("run"), ..host() }, registry)
}

fn host() -> Host {
    Host {
        bridge: "walt-net".into(),
        state_dir: "/var/lib/walt".into(),
        runtime_dir: "/run/walt/machines".into(),
        user: "walt-vm".into(),
        accelerator: Accelerator::Tcg,
    }
}

#[test]
fn a_machine_is_what_its_settings_say() {
    let (host, mac) = (host(), MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]));
    let networks = vec!["home".to_owned()];
    let spec = Spec { name: "vm1".into(), cores: 3, ram: 768, disks: vec![8192, 1], networks };
    let mut places = Places::of(&host, mac);
    places.disks = PathBuf::from("/a,b");
    let ports = network::ports(&host, mac, &spec);
    let words: Vec<_> =
        command(mac, &spec, &places, ports.len(), false).into_iter().map(|word| word.into_string().unwrap()).collect();
    let after = |option: &str| -> Vec<&str> {
        words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
    };
    assert_eq!((after("-smp"), after("-m"), after("-name")), (vec!["3"], vec!["768"], vec!["vm1"]));
    assert_eq!(after("-drive").len(), 2);
    assert!(after("-drive")[1].ends_with("file=/a,,b/disk1.raw"), "{:?}", after("-drive"));
    assert_eq!(ports.iter().map(|port| port.bridge.as_str()).collect::<Vec<_>>(), ["walt-net", "wn-home"]);
    for (number, netdev) in after("-netdev").into_iter().enumerate() {
        assert!(netdev.ends_with(&format!("fd={}", 3 + number)), "{netdev}");
        assert!(ports[number].tap.len() <= 15, "{:?}", ports[number]);
    }
    let nics: Vec<_> = after("-device").into_iter().filter(|device| device.starts_with("virtio-net")).collect();
    assert!(nics[0].ends_with("mac=52:54:00:ab:cd:ef") && nics[1].ends_with(",romfile="), "{nics:?}");
    assert_ne!(mac_of(mac, 1), mac);
    assert!(words.iter().any(|word| word.contains("tcg")) && !words.iter().any(|word| word == "kvm"));
    // unix(7): the longest name of a socket.
    assert!(places.control.as_os_str().len() < 107);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(qemu::mac_of_pid_file(&name(&places.pid)), Some(mac));
    for other in [&places.control, &PathBuf::from("5254.pid"), &PathBuf::from("zz5400abcdef.pid")] {
        assert_eq!(qemu::mac_of_pid_file(&name(other)), None, "{other:?}");
    }
}

#[test]
fn the_networks_that_a_machine_is_on_are_seen_whatever_its_settings_say_by_now() {
    let (mac, interfaces) = (MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]), tempfile::tempdir().unwrap());
    let spec = |networks: &[&str]| Spec {
        name: "vm1".into(),
        cores: 1,
        ram: 64,
        disks: Vec::new(),
        networks: networks.iter().map(|name| (*name).to_owned()).collect(),
    };
    let began_with = network::ports(&host(), mac, &spec(&["home", "lab"]));
    for port in &began_with {
        let tap = interfaces.path().join(&port.tap);
        std::fs::create_dir(&tap).unwrap();
        std::os::unix::fs::symlink(format!("../{}", port.bridge), tap.join("master")).unwrap();
    }
    let joined = network::joined(mac, interfaces.path());
    assert_eq!(joined, BTreeSet::from(["wn-home".to_owned(), "wn-lab".to_owned()]), "and not the platform's");
    assert_eq!(joined, network::private(&began_with));
    let now = network::private(&network::ports(&host(), mac, &spec(&["lab"])));
    assert_eq!(joined.difference(&now).collect::<Vec<_>>(), ["wn-home"], "what is left");
    assert_eq!(network::joined(MacAddr([0x52, 0x54, 0, 0, 0, 1]), interfaces.path()), BTreeSet::new());
}
