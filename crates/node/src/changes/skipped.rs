//! What is not saved.

use wire::node::{INTERNAL_DIRECTORY, PROGRAM_NAMES};

/// What the kernel or the init of the next boot fills.
const OTHER_FILE_SYSTEMS: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// What the server puts into every image, and the next server's would cover in any case.
const SERVERS: [&str; 5] = ["etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/localtime", "etc/timezone"];

/// What makes one machine another one than its neighbour: all nodes of the saved image would share it.
const IDENTITIES: [&str; 3] = ["etc/machine-id", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed"];

/// Whether the file at this path (no slash before it) is left out, with all that is below it.
pub(super) fn is_skipped(path: &[u8]) -> bool {
    let mut named = OTHER_FILE_SYSTEMS.iter().chain(&SERVERS).chain(&IDENTITIES);
    named.any(|other| path == other.as_bytes()) || is_agent(path) || is_host_key(path)
}

/// Where `/bin` is a symlink, the agent's programs are in `/usr/bin`.
fn is_agent(path: &[u8]) -> bool {
    let path = path.strip_prefix(b"usr/").unwrap_or(path);
    let Some(name) = path.strip_prefix(b"bin/") else { return false };
    let internal = INTERNAL_DIRECTORY.strip_prefix("/bin/").unwrap_or_default();
    name == internal.as_bytes() || name == b"walt-env" || PROGRAM_NAMES.iter().any(|known| name == known.as_bytes())
}

/// The private half is every node's: whoever gets the saved image could pass for any of them.
fn is_host_key(path: &[u8]) -> bool {
    path.starts_with(b"etc/ssh/ssh_host_")
        || path.starts_with(b"etc/dropbear/dropbear_") && path.ends_with(b"_host_key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_servers_or_one_machines_is_not_saved() {
        for path in [
            "proc",
            "tmp",
            "etc/hosts",
            "etc/machine-id",
            "bin/walt-init",
            "usr/bin/walt-log-echo",
            "bin/_walt_internal_",
            "usr/bin/walt-env",
            "etc/ssh/ssh_host_ecdsa_key",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "etc/dropbear/dropbear_rsa_host_key",
        ] {
            assert!(is_skipped(path.as_bytes()), "{path}");
        }
        for path in
            ["processes", "root/tmp", "var/tmp", "etc/hosts.allow", "bin/walt", "sbin/walt-init", "etc/ssh/sshd_config"]
        {
            assert!(!is_skipped(path.as_bytes()), "{path}");
        }
    }
}
