//! `%(name)s` in templates, and the environment file.

use super::ServerFiles;

/// Names and values that images may use.
pub(super) type Variables = [(&'static str, String); 8];

/// The values for one image.
pub(super) fn variables(files: &ServerFiles, image_id: &str, image_size: u64) -> Variables {
    let mac: Vec<_> = files.server_mac.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        ("server_ip", files.server_ip.to_string()),
        ("server_mac", mac.join(":")),
        ("walt_server_rpc_port", files.ports.server_rpc.to_string()),
        ("walt_server_logs_port", files.ports.server_logs.to_string()),
        ("walt_server_notify_bootup_port", files.ports.server_notify_bootup.to_string()),
        ("walt_node_net_service_port", files.ports.node_net_service.to_string()),
        ("walt_image_id", image_id.to_owned()),
        ("walt_image_size_kib", image_size.div_ceil(1024).to_string()),
    ]
}

/// Replaces each `%(name)s` whose name is known; everything else stays as it is.
pub(super) fn substitute(template: &[u8], variables: &Variables) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"%(") {
        let (before, from_mark) = rest.split_at(at);
        out.extend(before);
        let known = variables.iter().find_map(|(name, value)| {
            let after = from_mark[2..].strip_prefix(name.as_bytes())?.strip_prefix(b")s")?;
            Some((value, after))
        });
        if let Some((value, after)) = known {
            out.extend(value.as_bytes());
            rest = after;
        } else {
            out.extend(b"%(");
            rest = &from_mark[2..];
        }
    }
    out.extend(rest);
    out
}

/// `/bin/walt-env`: a shell file that exports what programs on a node need.
pub(super) fn environment(variables: &Variables) -> String {
    const EXPORTS: [(&str, &str); 6] = [
        ("walt_server_ip", "server_ip"),
        ("walt_server_rpc_port", "walt_server_rpc_port"),
        ("walt_server_logs_port", "walt_server_logs_port"),
        ("walt_server_notify_bootup_port", "walt_server_notify_bootup_port"),
        ("walt_image_id", "walt_image_id"),
        ("walt_image_size_kib", "walt_image_size_kib"),
    ];
    let value = |name| variables.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value.as_str());
    EXPORTS.iter().map(|(export, variable)| format!("export {export}=\"{}\"\n", value(*variable))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Variables {
        ["server_ip", "server_mac", "a", "b", "c", "d", "walt_image_id", "f"].map(|name| (name, format!("<{name}>")))
    }

    #[test]
    fn known_names_are_replaced_and_all_else_stays() {
        for (template, expected) in [
            ("ip=%(server_ip)s;", "ip=<server_ip>;"),
            ("%(server_ip)s%(server_mac)s", "<server_ip><server_mac>"),
            ("%(unknown)s %d 100%% %(", "%(unknown)s %d 100%% %("),
            ("%(server_ip)d", "%(server_ip)d"),
            ("%(%(server_ip)s", "%(<server_ip>"),
            ("%%(server_ip)s", "%<server_ip>"),
            ("", ""),
        ] {
            assert_eq!(substitute(template.as_bytes(), &sample()), expected.as_bytes(), "{template}");
        }
        assert_eq!(substitute(b"\xff%(server_ip)s\0", &sample()), b"\xff<server_ip>\0");
    }
}
