//! `/persist`: a directory of the server's that keeps what is in it over a reboot.
//!
//! The node learns by the mount itself whether it is to have one: the server knows no such share then ("not found"). Nothing
//! else could tell it: the kernel's arguments come from the image, and the files that the server adds are the same for every
//! node that boots it.

use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::NfsShare;
use crate::settings::Settings;

const PLACE: &str = "/persist";

/// * `hard`: a program waits while the server is away, and is never told that what it has written is lost;
/// * `timeo`: tenths of a second, as for the root; a connection that breaks is noticed at once, whatever it says;
/// * `nolock`: the server has no lock service; locks hold between the programs of this node, which is all there are.
const OPTIONS: &str = "vers=3,proto=tcp,mountproto=tcp,hard,nolock,timeo=50,retrans=2";

/// Mounts it, if this node has one.
pub(super) fn mount(settings: &Settings) -> Result<String, Failure> {
    let Some(share) = &settings.share else { return Ok("none: the root is not on NFS".into()) };
    let server = share.server.unwrap_or(settings.server);
    let path = path_of(&share.path)
        .ok_or_else(|| Failure::new(format!("{} is not the root of a node: its neighbour is not known", share.path)))?;
    let (source, options) = (format!("{server}:{path}"), options(server, share));
    let was_there = fs::symlink_metadata(PLACE).map(|metadata| metadata.is_dir());
    match was_there {
        Ok(true) => {}
        Ok(false) => return Err(Failure::new(format!("{PLACE} is no directory in this image"))),
        Err(_) => fs::create_dir(PLACE).doing(|| format!("make directory {PLACE}"))?,
    }
    let what = || format!("mount {source} on {PLACE} ({options})");
    let data = CString::new(options.as_str()).doing(what)?;
    match rustix::mount::mount(source.as_str(), PLACE, "nfs", MountFlags::empty(), data.as_c_str()) {
        Ok(()) => Ok(format!("{source} on {PLACE}")),
        Err(error) => {
            // An empty directory there would look like one that lasts.
            if was_there.is_err() {
                fs::remove_dir(PLACE).doing(|| format!("remove {PLACE}"))?;
            }
            if error == Errno::NOENT { Ok("none for this node".into()) } else { Err(error).doing(what) }
        }
    }
}

/// The share beside a node's root: `…/nodes/<key>/persist` of `…/nodes/<key>/fs`, or of a directory below that.
fn path_of(root: &str) -> Option<String> {
    let (before, rest) = root.split_once("/nodes/")?;
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let key = parts.next()?;
    (parts.next()? == "fs").then(|| format!("{before}/nodes/{key}/persist"))
}

fn options(server: Ipv4Addr, root: &NfsShare) -> String {
    // Where the root found the services, this finds them.
    let ports = ["port", "mountport"].into_iter().filter_map(|name| Some(format!(",{name}={}", root.option(name)?)));
    format!("{OPTIONS}{},addr={server}", ports.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_beside_the_root() {
        for (root, expected) in [
            ("/var/lib/walt/nodes/10.0.0.5/fs", Some("/var/lib/walt/nodes/10.0.0.5/persist")),
            ("/srv/nodes/node-1/fs/sub/dir", Some("/srv/nodes/node-1/persist")),
            ("/nodes/02:00:00:00:00:01//fs/", Some("/nodes/02:00:00:00:00:01/persist")),
            ("/var/lib/walt/nodes/10.0.0.5", None),
            ("/exports/debian", None),
            ("", None),
        ] {
            assert_eq!(path_of(root).as_deref(), expected, "{root}");
        }
    }

    #[test]
    fn the_services_are_found_where_the_root_found_them() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let root = NfsShare::parse("10.0.0.1:/x/nodes/a/fs,ro,vers=3,port=2050,mountport=2051,addr=10.0.0.1").unwrap();
        assert_eq!(options(server, &root), format!("{OPTIONS},port=2050,mountport=2051,addr=10.0.0.1"));
        let root = NfsShare::parse("10.0.0.1:/x/nodes/a/fs,ro").unwrap();
        assert_eq!(options(server, &root), format!("{OPTIONS},addr=10.0.0.1"));
    }
}
