//! The rules, as nft(8) reads them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Name of our table, of the family `ip`.
pub(super) const TABLE: &str = "walt";

/// What the rules depend on besides addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Interface of the nodes.
    pub(crate) interface: String,
    /// Nothing else passes between the nodes' interface and others.
    pub(crate) isolate: bool,
}

impl Rules {
    /// Input of `nft -f -` that puts our table in the place of what it was, in one transaction.
    ///
    /// # Errors
    /// The interface has a name that can not be written there.
    pub(super) fn text(&self, behind_nat: &BTreeSet<Ipv4Addr>) -> Result<String, String> {
        let Self { interface, isolate } = self;
        // There is no way to write a quotation mark, and a star at the end would mean other interfaces, too.
        if !interface.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@+".contains(&byte)) {
            return Err(format!("nft has no way to write the name of the interface {interface:?}"));
        }
        let mut elements = String::new();
        if !behind_nat.is_empty() {
            let addresses: Vec<_> = behind_nat.iter().map(Ipv4Addr::to_string).collect();
            elements = format!(" elements = {{ {} }};", addresses.join(", "));
        }
        let mut text = String::new();
        let _ = write!(
            text,
            r#"# A table that is not there can not be deleted.
add table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
    set behind_nat {{ type ipv4_addr;{elements} }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @behind_nat oifname != "{interface}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        # Networks behind relay agents are on this interface, too.
        iifname "{interface}" oifname "{interface}" accept
        iifname "{interface}" ip saddr @behind_nat accept
        oifname "{interface}" ip daddr @behind_nat ct state established,related accept
"#
        );
        if *isolate {
            // What the administrator has given another destination (ports of containers, forwarded ports) is meant to pass.
            text.push_str("        ct status dnat accept\n");
            let _ = write!(text, "        iifname \"{interface}\" drop\n        oifname \"{interface}\" drop\n");
            // Networks among virtual nodes lead nowhere else.
            text.push_str("        iifname \"wn-*\" drop\n        oifname \"wn-*\" drop\n");
        }
        text.push_str("    }\n}\n");
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(interface: &str, isolate: bool) -> Rules {
        Rules { interface: interface.into(), isolate }
    }

    #[test]
    fn addresses_are_in_the_set_and_the_rest_is_dropped_unless_it_may_pass() {
        let addresses = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 9)]);
        let text = rules("eth1.7", true).text(&addresses).unwrap();
        assert!(text.contains("set behind_nat { type ipv4_addr; elements = { 10.0.0.7, 10.0.0.9 }; }"), "{text}");
        assert_eq!(text.matches("drop").count(), 4);
        let text = rules("eth1.7", false).text(&BTreeSet::new()).unwrap();
        assert!(text.contains("set behind_nat { type ipv4_addr; }") && !text.contains("drop"), "{text}");
    }

    #[test]
    fn a_name_that_would_be_something_else_is_refused() {
        for wrong in ["eth*", "a\"b", "a\\b", "a\nb", "é"] {
            assert!(rules(wrong, true).text(&BTreeSet::new()).is_err(), "{wrong:?}");
        }
    }
}
