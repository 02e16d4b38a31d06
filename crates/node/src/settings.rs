//! What a node must know of its server, from the kernel's arguments, the image and the root mount.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::failure::{Doing as _, Failure};
use crate::kernel_arguments::{IpArgument, KernelArguments, NfsShare};
use crate::mounts;

/// Shell file that the server adds to each image.
const ENVIRONMENT_FILE: &str = "/bin/walt-env";

/// How long the NFS share may stay silent before the machine reboots, unless `walt.watchdog.grace=`
/// says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

/// Shortest grace time: a server that restarts needs a few seconds.
const SHORTEST_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) server: Ipv4Addr,
    /// Grace time of the watchdog.
    pub(crate) grace: Duration,
    /// The NFS share that is the root, if it is one.
    pub(crate) share: Option<NfsShare>,
    /// Whether the kernel's messages are sent to the server: unless `walt.netconsole=no` says otherwise.
    pub(crate) netconsole: bool,
    /// Variables of `/bin/walt-env`.
    pub(crate) environment: Vec<(String, String)>,
}

impl Settings {
    /// Reads them on a running node; `/proc` must be mounted.
    pub(crate) fn read() -> Result<Self, Failure> {
        let arguments = fs::read_to_string("/proc/cmdline").doing(|| "read /proc/cmdline".into())?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
        // The file is absent where only the kernel's arguments speak.
        let environment = fs::read_to_string(ENVIRONMENT_FILE).unwrap_or_default();
        Self::decide(&KernelArguments::parse(&arguments), &mounts::parse(&mounts), &environment)
    }

    /// The kernel's arguments come first, because they are this boot's own; then what the root mount
    /// shows; then the file in the image.
    fn decide(arguments: &KernelArguments, mounts: &[mounts::Mount], environment: &str) -> Result<Self, Failure> {
        let environment = parse_environment(environment);
        let root = mounts::root(mounts);
        let argument = arguments.get("nfsroot").and_then(NfsShare::parse);
        // Some kernels show the root that they mounted themselves as `/dev/root`.
        let nfs_root = root.is_some_and(|root| root.kind.starts_with("nfs"));
        let mounted = root.and_then(mounts::nfs_share);
        let server = arguments
            .get("walt.server.ip")
            .and_then(|address| address.parse().ok())
            .or_else(|| argument.as_ref()?.server)
            .or_else(|| IpArgument::parse(arguments.get("ip")?).server)
            .or_else(|| mounted.as_ref()?.server)
            .or_else(|| environment.iter().find(|(name, _)| name == "walt_server_ip")?.1.parse().ok())
            .ok_or_else(|| Failure::new("no address of the server: neither walt.server.ip=, nfsroot= nor ip= among the kernel's arguments, nor walt_server_ip in /bin/walt-env"))?;
        let grace = arguments.get("walt.watchdog.grace").and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            server,
            grace: grace.map_or(DEFAULT_GRACE, Duration::from_secs).max(SHORTEST_GRACE),
            share: mounted.or(argument.filter(|_| nfs_root)),
            netconsole: arguments.get("walt.netconsole") != Some("no"),
            environment,
        })
    }
}

/// `export name=value` lines, the value in quotes or not. No expansion: the server writes constants.
fn parse_environment(text: &str) -> Vec<(String, String)> {
    let variable = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).trim_start().split_once('=')?;
        let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let value = value.trim();
        let unquoted = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
        // A NUL would make every later `execve` with this environment fail.
        (good && !unquoted.contains('\0')).then(|| (name.to_owned(), unquoted.to_owned()))
    };
    text.lines().filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFS: &str = "25 1 0:22 / / ro - nfs 10.0.0.1:/nodes/10.0.0.5/fs ro,vers=3,addr=10.0.0.1";
    const TMPFS: &str = "25 1 0:22 / / ro - tmpfs none rw";

    fn server(arguments: &str, mounts: &str, environment: &str) -> Option<Ipv4Addr> {
        let arguments = KernelArguments::parse(arguments);
        Settings::decide(&arguments, &mounts::parse(mounts), environment).ok().map(|settings| settings.server)
    }

    #[test]
    fn the_nearest_source_of_the_servers_address_wins() {
        let all = "walt.server.ip=1.0.0.1 nfsroot=1.0.0.2:/x ip=9.9.9.9:1.0.0.3:::";
        let environment = "export walt_server_ip=1.0.0.5";
        let ip = |last| Some(Ipv4Addr::new(1, 0, 0, last));
        assert_eq!(server(all, NFS, environment), ip(1));
        assert_eq!(server("nfsroot=1.0.0.2:/x ip=9.9.9.9:1.0.0.3:::", NFS, environment), ip(2));
        assert_eq!(server("nfsroot=/x ip=9.9.9.9:1.0.0.3:::", NFS, environment), ip(3));
        assert_eq!(server("ip=dhcp", NFS, environment), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(server("walt.server.ip=bad", TMPFS, environment), ip(5));
        assert_eq!(server("", TMPFS, ""), None);
    }

    #[test]
    fn only_an_nfs_root_is_watched() {
        let share = |arguments: &str, mounts: &str| {
            let arguments = KernelArguments::parse(arguments);
            Settings::decide(&arguments, &mounts::parse(mounts), "walt_server_ip=1.0.0.5")
                .unwrap()
                .share
                .map(|s| s.path)
        };
        assert_eq!(share("", NFS), Some("/nodes/10.0.0.5/fs".into()));
        assert_eq!(share("nfsroot=1.0.0.2:/x", TMPFS), None);
        assert_eq!(share("nfsroot=1.0.0.2:/x", &NFS.replace("10.0.0.1:/nodes", "server:/nodes")), Some("/x".into()));
    }

    #[test]
    fn the_grace_time_has_a_default_and_a_floor() {
        let grace = |argument: &str| {
            let arguments = KernelArguments::parse(&format!("walt.server.ip=1.0.0.1 {argument}"));
            Settings::decide(&arguments, &[], "").unwrap().grace.as_secs()
        };
        assert_eq!(grace(""), 60);
        assert_eq!(grace("walt.watchdog.grace=20"), 20);
        assert_eq!(grace("walt.watchdog.grace=0"), 5);
        assert_eq!(grace("walt.watchdog.grace=soon"), 60);
    }

    #[test]
    fn variables_of_the_shell_file() {
        let text = "#!/bin/sh\nexport a=1\n  export b=\"x y\"\nc='z'\nexport $(x)=1\nexport d\nif [ x = y ]; then\n";
        let expected = [("a", "1"), ("b", "x y"), ("c", "z")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(parse_environment(text), expected);
    }
}
