//! Devices with `netsetup=NAT`: the server passes their packets on to other networks, under its own address there.
//!
//! It is done by the kernel, in a table of ours ([`ruleset`]); other tables are left alone. DHCP tells these devices that
//! the server is their router. The table stays when the daemon ends: nodes outlive a restart of it, and so do their
//! connections.

mod forwarding;
mod nft;
mod ruleset;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use net::Exports;

pub(crate) use ruleset::Rules;

use crate::registration::Input;
use crate::site::Site;

/// After this, what failed is tried again, and what is in force is looked at: `nft flush ruleset`, which a restart of
/// nftables.service does, takes our table, too.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The part of the daemon that keeps the kernel's table.
pub(crate) struct Nat {
    rules: Rules,
    exports: Arc<Exports>,
    /// The addresses in the kernel's table; `None` if it is not ours yet.
    loaded: Option<BTreeSet<Ipv4Addr>>,
    /// What was tried last has failed.
    failing: bool,
}

impl Nat {
    /// Nothing is done until a device is behind NAT.
    pub(crate) fn new(rules: Rules, exports: Arc<Exports>) -> Self {
        Self { rules, exports, loaded: None, failing: false }
    }

    /// Keeps the table for ever.
    pub(crate) async fn run(mut self, site: Arc<Site>) -> Result<Infallible, Infallible> {
        let mut changes = self.exports.devices().watch_nat();
        self.take_over().await;
        loop {
            changes.mark_unchanged();
            if let Some(result) = self.update().await {
                site.report(Input::NatSet { result }).await;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = tokio::time::sleep(LOOK_AGAIN) => self.look().await,
            }
        }
    }

    /// A table that a daemon before has left is replaced, even if nobody is behind NAT any more: its addresses and its
    /// interface are those of then.
    async fn take_over(&mut self) {
        if nft::run(&["list", "table", "ip", ruleset::TABLE], "").await.is_ok() {
            let wanted = self.exports.devices().behind_nat();
            match self.load(&wanted).await {
                Ok(()) => {
                    tracing::info!(devices = wanted.len(), "devices behind NAT");
                    self.loaded = Some(wanted);
                }
                Err(cause) => tracing::error!(cause, "the rules that were left can not be replaced"),
            }
        }
    }

    /// Brings the kernel up to date; `None` if there was nothing to do.
    async fn update(&mut self) -> Option<Result<(), String>> {
        let wanted = self.exports.devices().behind_nat();
        // Who has never wanted NAT needs no nft.
        let unused = wanted.is_empty() && self.loaded.is_none();
        if unused || self.loaded.as_ref() == Some(&wanted) {
            // What failed may not be wanted any more.
            return std::mem::take(&mut self.failing).then_some(Ok(()));
        }
        let result = self.load(&wanted).await;
        self.failing = result.is_err();
        match &result {
            Ok(()) => {
                tracing::info!(devices = wanted.len(), "devices behind NAT");
                self.loaded = Some(wanted);
            }
            Err(cause) => {
                tracing::error!(cause, "NAT does not work; it is tried again every {} s", LOOK_AGAIN.as_secs())
            }
        }
        Some(result)
    }

    /// First the table, then the switch: no packet is to pass without it.
    async fn load(&self, wanted: &BTreeSet<Ipv4Addr>) -> Result<(), String> {
        let rules = self.rules.text(wanted)?;
        let routes = tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default();
        if !wanted.is_empty() && is_way_out(&routes, &self.rules.interface) {
            // Nodes are on the network that their packets would leave by: its own router is theirs.
            return Err(format!(
                "this machine's own default route goes out by {}, the nodes' interface: `[dhcp] gateway` can name that router",
                self.rules.interface
            ));
        }
        nft::run(&["-f", "-"], &rules).await?;
        if !wanted.is_empty() && forwarding::enable(Path::new(forwarding::SWITCH)).await? {
            tracing::info!(
                "this machine passes on packets between its networks from now on ({} is 1)",
                forwarding::SWITCH
            );
        }
        Ok(())
    }

    /// Forgets what was loaded if it is not there any more.
    async fn look(&mut self) {
        if self.loaded.is_some()
            && let Err(cause) = nft::run(&["list", "chain", "ip", ruleset::TABLE, "forward"], "").await
        {
            tracing::warn!(
                cause,
                "the rules for devices behind NAT are gone, probably by `nft flush ruleset`: set again"
            );
            self.loaded = None;
            // An empty set is wanted, too, once there was another one: it keeps the networks apart.
            if self.exports.devices().behind_nat().is_empty() {
                self.loaded = self.load(&BTreeSet::new()).await.is_ok().then(BTreeSet::new);
            }
        }
    }
}

/// Whether an interface has a default route, from the text of /proc/net/route (proc_pid_net(5)): destination and mask are 0.
fn is_way_out(routes: &str, interface: &str) -> bool {
    routes.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [of, "00000000", _, _, _, _, _, "00000000", ..] if of == interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_of_the_default_route() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      eth1\t0098A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(is_way_out(routes, "eth0") && !is_way_out(routes, "eth1") && !is_way_out("", "eth0"));
    }
}
