//! The procedures of MOUNT version 3 (RFC 1813 §5.2).

use std::net::Ipv4Addr;

use wire::mount::{self, DUMP, EXPORT, MNT, NULL, UMNT, UMNTALL};
use wire::rpc::AcceptStat;
use wire::xdr::{Reader, Writer};

use super::filesystem::{Exporter, Filesystem, MountPoint};
use super::handle::{FileHandle, HandleKey};

/// Writes the results of `procedure`; `Err` is the reply's status instead.
pub(super) fn answer<E: Exporter>(
    exporter: &E,
    key: &HandleKey,
    client: Ipv4Addr,
    procedure: u32,
    arguments: &mut Reader<'_>,
    out: &mut Writer,
) -> Result<(), AcceptStat> {
    match procedure {
        NULL => {}
        MNT => {
            let path = mount::decode_path(arguments).map_err(|_| AcceptStat::GarbageArguments)?;
            match exporter.mount(client, path) {
                Ok(MountPoint::Image { fs, dir }) => {
                    let root = FileHandle { fsid: fs.fsid(), ino: dir };
                    mount::encode_mounted(out, &root.sign(key));
                }
                Ok(MountPoint::Directory(directory)) => mount::encode_mounted(out, &directory.root().sign(key)),
                Err(stat) => mount::encode_refused(out, stat),
            }
        }
        // An image stays readable until its node leaves it, whatever is said here: a node unmounts one
        // mount of several, and a server that forgets is of no use to it. Hence no state to remove.
        UMNT => drop(mount::decode_path(arguments).map_err(|_| AcceptStat::GarbageArguments)?),
        UMNTALL => {}
        DUMP => {
            if let Some(own) = exporter.own_export(client).filter(|own| own.mounted) {
                mount::encode_dump_entry(out, own.host.as_bytes(), own.path.as_bytes());
            }
            mount::encode_list_end(out);
        }
        EXPORT => {
            if let Some(own) = exporter.own_export(client) {
                mount::encode_export_entry(out, own.path.as_bytes(), client.to_string().as_bytes());
            }
            mount::encode_list_end(out);
        }
        _ => return Err(AcceptStat::ProcedureUnavailable),
    }
    Ok(())
}
