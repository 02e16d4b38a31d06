//! The mount table: what is mounted where, read from `/proc/self/mountinfo` (proc(5)).

use crate::kernel_arguments::NfsShare;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    /// Mount point, relative to the reader's root.
    pub(crate) point: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Options of the file system itself.
    pub(crate) options: String,
}

/// Reads the table; lines that cannot be read are left out.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// The mount that is `/`: the last one there, since later mounts hide earlier ones.
pub(crate) fn root(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rev().find(|mount| mount.point == "/")
}

/// The share that `mount` shows, if it is an NFS one.
pub(crate) fn nfs_share(mount: &Mount) -> Option<NfsShare> {
    let nfs = mount.kind == "nfs" || mount.kind == "nfs4";
    let share = nfs.then(|| NfsShare::parse(&format!("{},{}", mount.source, mount.options))).flatten()?;
    // A source by name is of no use before there is a resolver; `addr=` is always the address.
    let server = share.option("addr").and_then(|addr| addr.parse().ok()).or(share.server);
    Some(NfsShare { server, ..share })
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let mut right = right.splitn(3, ' ');
    Some(Mount {
        id: left.first()?.parse().ok()?,
        parent: left.get(1)?.parse().ok()?,
        point: unescape(left.get(4)?),
        kind: right.next()?.to_owned(),
        source: unescape(right.next()?),
        options: right.next()?.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(byte as char);
                rest = &after[3..];
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const TABLE: &str = "\
1 1 0:2 / / rw - rootfs none rw,size=1k
25 1 0:22 / / ro,relatime - nfs 10.0.0.1:/var/lib/walt/nodes/10.0.0.5/fs ro,vers=3,rsize=1048576,mountport=20048,addr=10.0.0.1
26 25 0:5 / /dev rw - devtmpfs devtmpfs rw
27 25 0:6 / /a\\040b rw shared:3 - tmpfs tmpfs rw
garbage
28 x 0:6 / /a rw - tmpfs tmpfs rw
";

    #[test]
    fn the_last_root_wins_and_shows_its_share() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[3].point, "/a b");
        let root = root(&mounts).unwrap();
        assert_eq!(root.id, 25);
        let share = nfs_share(root).unwrap();
        assert_eq!(share.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(share.path, "/var/lib/walt/nodes/10.0.0.5/fs");
        assert_eq!(share.option("mountport"), Some("20048"));
        assert_eq!(nfs_share(&mounts[0]), None);
    }

    #[test]
    fn a_source_by_name_takes_its_address_from_the_options() {
        let line = "25 1 0:22 / / ro - nfs server:/x ro,vers=3,addr=10.0.0.1";
        // `server` is no address: the text of the share can't be read, and the watchdog falls back to
        // the kernel's arguments.
        assert_eq!(nfs_share(&parse(line)[0]), None);
        assert_eq!(unescape("a\\134b\\x\\9"), "a\\b\\x\\9");
    }
}
