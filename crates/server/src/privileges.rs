//! What the daemon may still do once its sockets are open.
//!
//! It must be started as root: it binds low ports, opens packet sockets, and mounts images. The main
//! thread keeps all privileges until the sockets are bound; every other thread gives up, before its
//! first instruction of ours, all but what is needed later:
//!
//! * `CAP_SYS_ADMIN`: mounting images (FUSE) and unmounting them, at any time;
//! * `CAP_NET_RAW`, `CAP_NET_ADMIN`: raw DHCP frames and ARP probes on the nodes' interface;
//! * `CAP_NET_BIND_SERVICE`: TFTP and NFS answers from low ports;
//! * `CAP_SETUID`, `CAP_SETGID`: acting on the files of `/persist` as each user of a node (fsuid, fsgid, groups); QEMU runs
//!   as an unprivileged user,
//! * `CAP_KILL`: and is killed if it hangs;
//! * `CAP_CHOWN`, `CAP_FOWNER`, `CAP_DAC_OVERRIDE`: the state directory, if it is not root's own, and what root of a node
//!   does with files in `/persist`;
//! * `CAP_DAC_READ_SEARCH`: finding those by handle (open_by_handle_at(2) asks for it);
//! * `CAP_FSETID`, `CAP_MKNOD`: what else root of a node may do there: keep setuid bits, make devices.
//!
//! Nothing that it runs (hooks) can gain privileges again: `no_new_privs` is set, and the bounding set
//! is cut. Threads inherit both from their parent.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// What is kept.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD);

/// Gives up, for the calling thread and those it starts, all that is not needed after the sockets
/// are bound. Without any capability (not started as root) there is nothing to give up.
///
/// # Errors
/// The kernel refuses.
pub fn drop_unneeded() -> io::Result<()> {
    let now = capabilities(None)?;
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // EINVAL: this kernel does not know it. EPERM: without CAP_SETPCAP there is nothing to cut.
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(io::Errno::INVAL | io::Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let kept = |set: CapabilitySet| set.intersection(KEPT);
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept(now.effective),
            permitted: kept(now.permitted),
            inheritable: CapabilitySet::empty(),
        },
    )?;
    set_no_new_privs(true)
}

/// As [`drop_unneeded`], at the start of a thread, which has nobody to tell an error to: a daemon that
/// keeps more privileges than it says must not run.
pub fn drop_or_exit() {
    if let Err(error) = drop_unneeded() {
        tracing::error!(%error, "can not give up privileges");
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_needs_and_nothing_else() {
        let before = capabilities(None).unwrap();
        // In a thread of its own: the others of this test keep theirs.
        let after = std::thread::spawn(|| {
            drop_unneeded().unwrap();
            assert!(rustix::thread::no_new_privs().unwrap());
            capabilities(None).unwrap()
        });
        let after = after.join().unwrap();
        assert_eq!(after.permitted, before.permitted.intersection(KEPT));
        assert_eq!(after.effective, before.effective.intersection(KEPT));
        assert!(!after.permitted.contains(CapabilitySet::SYS_MODULE));
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
