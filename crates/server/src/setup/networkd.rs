//! Which file of systemd-networkd has an interface, before ours could.
//!
//! systemd.network(5): of all `.network` files, by name, the first that fits an interface counts, and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the files are; of several with one name that of the first directory counts.
pub(super) const DIRECTORIES: [&str; 4] =
    ["/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network"];

/// The file that comes before `ours` and fits the interface by its name.
pub(super) fn before(ours: &str, interface: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let mut files = BTreeMap::new();
    for entry in directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        files.entry(entry.file_name()).or_insert_with(|| entry.path());
    }
    let earlier = files.into_iter().filter(|(name, _)| name.to_str().is_some_and(|name| is_before(name, ours)));
    // One that is masked by a link to /dev/null fits nothing.
    let fits = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| fits(&text, interface));
    earlier.map(|(_, path)| path).find(fits)
}

/// The file that has an interface by now, whatever it fits it by, if it comes before `ours`; from what `networkctl
/// status` says.
pub(super) fn now_before(ours: &str, status: &str) -> Option<PathBuf> {
    let path = status.lines().find_map(|line| line.trim_start().strip_prefix("Network File:"))?.trim();
    is_before(Path::new(path).file_name()?.to_str()?, ours).then(|| path.into())
}

fn is_before(name: &str, ours: &str) -> bool {
    name.ends_with(".network") && name < ours
}

/// Whether a file fits an interface by `Name=` and by nothing else: the rest (drivers, hardware addresses, …) is left
/// to networkd, which tells what it has made of them.
fn fits(text: &str, interface: &str) -> bool {
    let mut section = "";
    let mut patterns: Vec<(bool, &str)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Match]") else { continue };
        if key.trim() != "Name" {
            return false;
        }
        // The sign is for all of the line.
        let (is_not, names) = value.trim().strip_prefix('!').map_or((false, value), |names| (true, names));
        match names.split_whitespace().next() {
            Some(_) => patterns.extend(names.split_whitespace().map(|name| (is_not, name))),
            // What was said so far counts no more.
            None => patterns.clear(),
        }
    }
    let fitting = |wanted: bool| {
        let mut of = patterns.iter().filter(move |(is_not, _)| *is_not == wanted);
        of.any(|(_, pattern)| matches(pattern.as_bytes(), interface.as_bytes()))
    };
    // With exceptions alone all else fits.
    !patterns.is_empty() && !fitting(true) && (fitting(false) || patterns.iter().all(|(is_not, _)| *is_not))
}

/// Shell patterns (glob(7)): `*`, `?` and `[…]`. An interface's name is short.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        ([b'?', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([b'[', rest @ ..], [byte, name @ ..]) => {
            let Some(end) = rest.iter().skip(1).position(|&b| b == b']').map(|end| end + 1) else { return false };
            let (is_not, set) = match &rest[..end] {
                [b'!' | b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            let in_range = |range: &[u8]| range[1] == b'-' && (range[0]..=range[2]).contains(byte);
            (set.contains(byte) || set.windows(3).any(in_range)) != is_not && matches(&rest[end + 1..], name)
        }
        ([wanted, rest @ ..], [byte, name @ ..]) => wanted == byte && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_fits_by_its_names_alone() {
        for (text, is_fit) in [
            ("[Match]\nName=eth1\n[Network]\nDHCP=yes\n", true),
            ("[Match]\n# mine\nName = lan0 eth*\n", true),
            ("[Match]\nName=lan0\nName=e?h[0-3]\n", true),
            ("[Match]\nName=!eth0 wlan*\n", true),
            ("[Match]\nName=eth*\nName=!eth1 eth2\n", false),
            ("[Match]\nName=eth1\nName=\nName=eth2\n", false),
            ("[Match]\nName=eth\n", false),
            ("[Match]\nName=eth[!0-3]\n", false),
            // networkd takes no notice of these.
            ("[Match]\n", false),
            ("", false),
            ("[Network]\nName=eth1\n", false),
            // Whether these fit is not known here.
            ("[Match]\nName=eth*\nVirtualization=container\n", false),
            ("[Match]\nMACAddress=02:00:00:00:00:01\n", false),
        ] {
            assert_eq!(fits(text, "eth1"), is_fit, "{text}");
        }
    }

    #[test]
    fn the_first_file_by_name_counts() {
        let directory = tempfile::tempdir().unwrap();
        let [etc, lib] = ["etc", "lib"].map(|name| directory.path().join(name));
        let write = |directory: &Path, name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
        fs::create_dir(&etc).unwrap();
        let directories = [etc.clone(), lib.clone()];
        let all = "[Match]\nName=eth*\n";
        write(&etc, "10-netplan-eth1.network", all);
        write(&etc, "05-walt.network", all);
        write(&etc, "01-eth.link", all);
        assert_eq!(before("05-walt.network", "eth1", &directories), None, "the ones after ours do no harm");
        fs::create_dir(&lib).unwrap();
        write(&lib, "00-all.network", all);
        assert_eq!(before("05-walt.network", "eth1", &directories), Some(lib.join("00-all.network")));
        assert_eq!(before("05-walt.network", "lan0", &directories), None);
        std::os::unix::fs::symlink("/dev/null", etc.join("00-all.network")).unwrap();
        assert_eq!(before("05-walt.network", "eth1", &directories), None, "it is masked");
    }

    #[test]
    fn networkd_says_which_file_it_has_taken() {
        let status =
            |path: &str| format!("2: eth1\n        Link File: n/a\n     Network File: {path}\n            State: x\n");
        let before = |path: &str| now_before("05-walt-port.network", &status(path));
        assert_eq!(before("/etc/systemd/network/00-mac.network"), Some("/etc/systemd/network/00-mac.network".into()));
        for other in
            ["n/a", "/run/systemd/network/10-netplan-eth1.network", "/etc/systemd/network/05-walt-port.network"]
        {
            assert_eq!(before(other), None, "{other}");
        }
        assert_eq!(now_before("05-walt.network", ""), None);
    }
}
