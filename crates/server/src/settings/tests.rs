use std::path::{Path, PathBuf};

use clap::Parser;

use super::*;

fn parse(text: &str) -> Result<File, SettingsError> {
    File::parse(text, Path::new("server.toml"))
}

fn settings(text: &str, flags: &[&str]) -> Result<Settings, SettingsError> {
    let flags = Flags::try_parse_from(std::iter::once("walt-server-daemon").chain(flags.iter().copied())).unwrap();
    Settings::merge(parse(text)?, &flags, "server.toml".into())
}

#[test]
fn interface_alone_gives_the_defaults() {
    let settings = settings("", &["--interface", "eth1"]).unwrap();
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/walt"));
    assert_eq!(settings.socket, PathBuf::from("/run/walt/control.sock"));
    assert_eq!(settings.rpi_firmware_dir, PathBuf::from("/var/lib/walt/rpi-firmware"));
    assert_eq!(settings.dhcp, Dhcp { domain: Some("walt".into()), ..Dhcp::default() });
    assert_eq!((&settings.dns, settings.isolate), (&Dns { enabled: true, forwarders: Vec::new() }, true));
    assert_eq!(settings.default_image("pc-x86-64"), "docker.io/waltplatform/pc-x86-64-default:latest");
}

#[test]
fn no_interface_is_an_error_that_says_how_to_give_one() {
    let error = settings("", &[]).unwrap_err().to_string();
    assert!(error.contains("--interface") && error.contains("server.toml"), "{error}");
}

#[test]
fn flags_win_over_the_file() {
    let text = "interface = \"eth1\"\nstate_dir = \"/srv/a\"\nsocket = \"/run/a.sock\"\n";
    let settings = settings(text, &["--interface", "eth2", "--socket", "/run/b.sock"]).unwrap();
    assert_eq!(settings.interface, "eth2");
    assert_eq!(settings.state_dir, PathBuf::from("/srv/a"));
    assert_eq!(settings.rpi_firmware_dir, PathBuf::from("/srv/a/rpi-firmware"));
    assert_eq!(settings.socket, PathBuf::from("/run/b.sock"));
}

#[test]
fn unknown_keys_name_the_nearest_right_one() {
    for (text, key, nearest) in [
        ("interfaces = \"eth1\"", "interfaces", Some("interface")),
        ("[dhcp]\nrnage = \"10.0.0.1-10.0.0.9\"", "dhcp.rnage", Some("dhcp.range")),
        ("range = \"10.0.0.1-10.0.0.9\"", "range", Some("dhcp.range")),
        ("[hook]\nlease = \"/x\"", "hook", Some("hooks.lease")),
        ("[images]\ndefault = { pc-x86-64 = \"a\" }\ndefualt = 1", "images.defualt", Some("images.default")),
        ("zzz = 1", "zzz", None),
    ] {
        let error = parse(text).unwrap_err();
        let SettingsError::UnknownKey { key: found, nearest: near, .. } = &error else { panic!("{text}: {error}") };
        assert_eq!((found.as_str(), near.as_deref()), (key, nearest), "{text}");
    }
}

#[test]
fn wrong_values_are_named() {
    for (text, expected) in [
        ("state_dir = \"relative\"", "state_dir"),
        ("rpi_firmware_dir = \"relative\"", "rpi_firmware_dir"),
        ("[dhcp]\nrange = \"10.0.0.9\"", "dhcp.range"),
        ("[dhcp]\nrange = \"10.0.0.9-10.0.0.1\"", "dhcp.range"),
        ("[dhcp]\nmode = \"both\"", "mode"),
        ("[dhcp]\ndomain = \"a b\"", "dhcp.domain"),
        ("[dns]\nforwarders = [\"localhost\"]", "dns.forwarders"),
        ("[dns]\nenabled = 1", "enabled"),
        ("[nat]\nisolate = \"no\"", "isolate"),
        ("[hooks]\nlease = \"hook.sh\"", "hooks.lease"),
        ("[images.default]\npc-x86-64 = \"UPPER CASE\"", "images.default"),
        ("[images.default]\n\"../x\" = \"a/b\"", "images.default"),
        ("[registries]\ninsecure = [\"http://host\"]", "registries.insecure"),
        ("[images]\nmax_image_gib = 0", "images.max_image_gib"),
        ("[images]\nmax_image_gib = 16385", "images.max_image_gib"),
        ("[images]\nmax_image_gib = -1", "max_image_gib"),
        ("[images]\nmax_layer_gib = 129", "images.max_layer_gib"),
        ("[images]\nmax_image_gib = 8\nmax_layer_gib = 9", "images.max_layer_gib"),
        ("[images]\nkeep_free_mib = 16777217", "images.keep_free_mib"),
        ("[dhcp]\nrelays = [\"10.1.0.1\"]", "dhcp.relays"),
        ("[dhcp]\nrelays = [\"10.1.0.1/31\"]", "dhcp.relays"),
        ("[dhcp]\nrelays = [\"10.1.0.0/24\"]", "dhcp.relays"),
        ("[dhcp]\nrelays = [\"10.1.0.255/24\"]", "dhcp.relays"),
        ("[dhcp]\nrelays = [\"10.1.0.1/24\", \"10.1.3.1/16\"]", "in common"),
        ("[dhcp]\nrelays = [\"10.1.3.1/16\", \"10.1.0.1/24\"]", "in common"),
    ] {
        let error = settings(text, &["--interface", "eth1"]).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn default_image_of_a_model_can_be_set() {
    let text = "[images.default]\npc-x86-64 = \"debian-pc\"";
    let settings = settings(text, &["--interface", "eth1"]).unwrap();
    assert_eq!(settings.default_image("pc-x86-64"), "docker.io/library/debian-pc:latest");
    assert_eq!(settings.default_image("rpi-3-b"), "docker.io/waltplatform/rpi-3-b-default:latest");
}

#[test]
fn limits_are_the_usual_ones_or_those_of_the_file() {
    let limits = |text: &str| settings(text, &["--interface", "eth1"]).unwrap().limits;
    assert_eq!(limits(""), Limits::default());
    let set = limits("[images]\nmax_image_gib = 300\nmax_layer_gib = 200\nkeep_free_mib = 0");
    assert_eq!((set.max_image, set.max_layer, set.reserve), (300 << 30, 200 << 30, 0));
    // A layer is part of an image.
    assert_eq!(limits("[images]\nmax_image_gib = 8").max_layer, 8 << 30);
}

#[test]
fn shipped_example_is_valid_and_names_every_key() {
    let text = include_str!("../../../../docs/server.toml");
    settings(text, &["--interface", "eth1"]).unwrap();
    assert!(matches!(settings(text, &[]), Err(SettingsError::NoInterface { .. })));
    // With its comment signs taken away, every key is there and valid, too.
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#").filter(|rest| rest.contains('=') && !rest.starts_with(' ')).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    settings(&uncommented, &[]).unwrap();
    for key in file::KEYS {
        let name = key.trim_end_matches(".*").rsplit('.').next().unwrap();
        assert!(uncommented.contains(name), "docs/server.toml does not mention {key}");
    }
}

#[test]
fn names() {
    let of = |text: &str| settings(text, &["--interface", "eth1"]).unwrap();
    let text = "[dns]\nforwarders = [\"10.0.0.1\", \"10.0.0.2:5353\", \"fd00::1\", \"[fd00::1]:5353\"]";
    let forwarders: Vec<_> = of(text).dns.forwarders.iter().map(ToString::to_string).collect();
    assert_eq!(forwarders, ["10.0.0.1:53", "10.0.0.2:5353", "[fd00::1]:53", "[fd00::1]:5353"]);
    assert_eq!(of("[dns]\nenabled = false").dhcp.domain, None);
    assert_eq!(of("[dhcp]\ndomain = \"lab.example.org\"").dhcp.domain.as_deref(), Some("lab.example.org"));
}

/// server.toml(5) describes each key and no other: a `.TP`, then `.B` and its name.
#[test]
fn the_man_page_has_every_key() {
    let page = include_str!("../../../../docs/man/server.toml.5");
    let lines: Vec<&str> = page.lines().collect();
    let keys = lines.windows(2).filter(|pair| pair[0] == ".TP").filter_map(|pair| pair[1].strip_prefix(".B "));
    let mut described: Vec<&str> = keys.collect();
    let mut known = file::KEYS.to_vec();
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known, "docs/man/server.toml.5 and the keys of the configuration differ");
}
