//! The kernel's command line, and the arguments of it that say where the root is.

use std::net::Ipv4Addr;

/// Words of a command line (Documentation/admin-guide/kernel-parameters.rst): separated by white
/// space, which double quotes protect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KernelArguments(Vec<String>);

impl KernelArguments {
    /// Splits the text of `/proc/cmdline`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in text.chars() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => words.push(String::new()),
                c => words.last_mut().into_iter().for_each(|word| word.push(c)),
            }
        }
        words.retain(|word| !word.is_empty());
        Self(words)
    }

    /// Value of `name=value`; the last one counts, as in the kernel.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// `ip=<client>:<server>:<gateway>:<netmask>:<host name>:<device>:<autoconf>:…`
/// (Documentation/admin-guide/nfs/nfsroot.rst). Absent and malformed fields are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IpArgument {
    pub(crate) client: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) netmask: Option<Ipv4Addr>,
    pub(crate) host_name: Option<String>,
    pub(crate) device: Option<String>,
}

impl IpArgument {
    pub(crate) fn parse(text: &str) -> Self {
        let fields: Vec<&str> = text.split(':').collect();
        let text = |i: usize| fields.get(i).copied().filter(|field| !field.is_empty());
        let address = |i| text(i).and_then(|field| field.parse().ok()).filter(|a: &Ipv4Addr| !a.is_unspecified());
        Self {
            client: address(0),
            server: address(1),
            gateway: address(2),
            netmask: address(3),
            host_name: text(4).map(str::to_owned),
            device: text(5).map(str::to_owned),
        }
    }
}

/// `nfsroot=[<server>:]<path>[,<options>]`, and the form that a mounted share has in the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NfsShare {
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) path: String,
    /// Mount options without the leading comma; may be empty.
    pub(crate) options: String,
}

impl NfsShare {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (source, options) = text.split_once(',').unwrap_or((text, ""));
        let (server, path) = match source.split_once(':') {
            Some((server, path)) => (Some(server.parse().ok()?), path),
            None => (None, source),
        };
        path.starts_with('/').then(|| Self { server, path: path.to_owned(), options: options.to_owned() })
    }

    /// Value of the mount option `name`.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').rev().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let arguments = KernelArguments::parse("quiet a=1 b=\"x y\" \"c=z z\" a=2 nfsroot=10.0.0.1:/x,vers=3\n");
        assert_eq!(arguments.get("a"), Some("2"));
        assert_eq!(arguments.get("b"), Some("x y"));
        assert_eq!(arguments.get("c"), Some("z z"));
        assert_eq!(arguments.get("nfsroot"), Some("10.0.0.1:/x,vers=3"));
        assert_eq!(arguments.get("quiet"), None);
        assert_eq!(arguments.get("nfs"), None);
        assert_eq!(KernelArguments::parse("\"").get("x"), None);
    }

    #[test]
    fn the_ip_argument_of_the_default_scripts() {
        let ip = IpArgument::parse("192.168.152.5:192.168.152.1:192.168.152.1:255.255.255.0:node-123456::off");
        assert_eq!(ip.client, Some(Ipv4Addr::new(192, 168, 152, 5)));
        assert_eq!(ip.server, Some(Ipv4Addr::new(192, 168, 152, 1)));
        assert_eq!(ip.netmask, Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!((ip.host_name.as_deref(), ip.device), (Some("node-123456"), None));
        assert_eq!(IpArgument::parse("dhcp"), IpArgument::default());
        assert_eq!(IpArgument::parse("1.2.3.4::0.0.0.0:x").netmask, None);
    }

    #[test]
    fn the_nfsroot_argument() {
        let share = NfsShare::parse("10.0.0.1:/var/lib/walt/nodes/10.0.0.5/fs,nfsvers=3,acl,port=2050").unwrap();
        assert_eq!(share.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(share.path, "/var/lib/walt/nodes/10.0.0.5/fs");
        assert_eq!(
            (share.option("port"), share.option("nfsvers"), share.option("acl")),
            (Some("2050"), Some("3"), None)
        );
        assert_eq!(NfsShare::parse("/srv").map(|s| (s.server, s.path)), Some((None, "/srv".into())));
        for text in ["", "10.0.0.1:", "host:/x", "10.0.0.1:x", ",vers=3"] {
            assert_eq!(NfsShare::parse(text), None, "{text:?}");
        }
    }
}
