//! The path that a client mounts: `<root>/nodes/<key>/fs`, or a directory below it, or `<root>/nodes/<key>/persist`.

use std::net::Ipv4Addr;

use crate::MacAddr;

/// How a path names its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKey<'a> {
    Ip(Ipv4Addr),
    Mac(MacAddr),
    Name(&'a str),
}

/// What of a node a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Share<'a> {
    /// Its image, and what follows `fs` (no slash at its ends, often empty).
    Image(Vec<&'a [u8]>),
    /// The directory that is its own and its user's.
    Persist,
}

/// Splits a path into the node it names and what of it is meant.
///
/// `roots` are the directories that may stand before `nodes`. Doubled and trailing slashes don't count.
pub(super) fn parse<'a>(path: &'a [u8], roots: &[String]) -> Option<(NodeKey<'a>, Share<'a>)> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
    if path.first() != Some(&b'/') {
        return None;
    }
    let below = roots.iter().find_map(|root| {
        let mut below = parts.as_slice();
        for part in root.split('/').filter(|part| !part.is_empty()) {
            below = below.split_first().filter(|(first, _)| **first == part.as_bytes())?.1;
        }
        Some(below).filter(|below| below.first() == Some(&&b"nodes"[..]))
    })?;
    let (key, share) = match below {
        [_nodes, key, b"fs", inside @ ..] => (key, Share::Image(inside.to_vec())),
        [_nodes, key, b"persist"] => (key, Share::Persist),
        _ => return None,
    };
    let key = std::str::from_utf8(key).ok()?;
    let key = if let Ok(ip) = key.parse() {
        NodeKey::Ip(ip)
    } else if let Ok(mac) = key.parse() {
        NodeKey::Mac(mac)
    } else {
        NodeKey::Name(key)
    };
    Some((key, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected = Option<(NodeKey<'static>, &'static [&'static [u8]])>;

    #[test]
    fn each_form_of_the_path() {
        let roots = ["/var/lib/walt".to_owned(), "/srv/state/".to_owned()];
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        let ip = NodeKey::Ip(Ipv4Addr::new(192, 168, 1, 7));
        let none: &'static [&'static [u8]] = &[];
        let table: &[(&str, Expected)] = &[
            ("/var/lib/walt/nodes/192.168.1.7/fs", Some((ip, none))),
            ("/srv/state/nodes/192.168.1.7/fs/", Some((ip, none))),
            ("//var/lib//walt/nodes/192.168.1.7/fs", Some((ip, none))),
            ("/var/lib/walt/nodes/52:54:00:12:34:ab/fs", Some((NodeKey::Mac(mac), none))),
            ("/var/lib/walt/nodes/52-54-00-12-34-AB/fs", Some((NodeKey::Mac(mac), none))),
            ("/var/lib/walt/nodes/node-1234ab/fs", Some((NodeKey::Name("node-1234ab"), none))),
            ("/var/lib/walt/nodes/fs/fs", Some((NodeKey::Name("fs"), none))),
            ("/var/lib/walt/nodes/192.168.1.7/fs/usr/lib", Some((ip, &[b"usr", b"lib"]))),
            ("var/lib/walt/nodes/192.168.1.7/fs", None),
            ("/var/lib/walt/nodes/192.168.1.7", None),
            ("/var/lib/walt/nodes/192.168.1.7/tftp", None),
            ("/var/lib/walt/nodes/fs", None),
            ("/var/lib/walt/nodes", None),
            ("/var/lib/walt/images/0123/fs", None),
            ("/elsewhere/nodes/192.168.1.7/fs", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in table {
            let expected = expected.map(|(key, inside)| (key, Share::Image(inside.to_vec())));
            assert_eq!(parse(path.as_bytes(), &roots), expected, "{path}");
        }
        for path in ["/var/lib/walt/nodes/192.168.1.7/persist", "/srv/state/nodes/192.168.1.7//persist/"] {
            assert_eq!(parse(path.as_bytes(), &roots), Some((ip, Share::Persist)));
        }
        for path in ["/var/lib/walt/nodes/192.168.1.7/persist/x", "/var/lib/walt/persist", "/nodes/a/persist"] {
            assert_eq!(parse(path.as_bytes(), &roots), None);
        }
        assert_eq!(parse(b"/var/lib/walt/nodes/\xff/fs", &roots), None);
    }
}
