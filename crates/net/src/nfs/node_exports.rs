//! The nodes' images, and their own directories, as NFS exports.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use image::{FileKind, Ino, ROOT, ResolveError, View};
use wire::mount::MountStat;

use super::Counters;
use super::export_path::{NodeKey, Share, parse};
use super::filesystem::{Exporter, MountPoint, OwnExport};
use super::host::HostDirectory;
use crate::{Event, Events, Exports, NodeExport};

/// Longest path repeated in an event, in bytes.
const EVENT_PATH: usize = 256;

/// Serves each node the images that [`Exports`] gives it.
#[derive(Debug)]
pub struct NodeExports {
    exports: Arc<Exports>,
    events: Events,
    roots: Vec<String>,
    counters: Arc<Counters>,
}

/// The reason that is no event.
const NONE: &str = "the node is to have no directory that lasts";

/// A mount that is refused: what the client is told, and what the daemon is.
struct Refusal(MountStat, &'static str);

impl NodeExports {
    /// `roots`: directories that may stand before `nodes/<key>/fs`; the first is the one to be shown.
    pub fn new(exports: Arc<Exports>, events: Events, roots: Vec<String>, counters: Arc<Counters>) -> Self {
        Self { exports, events, roots, counters }
    }

    /// The node at `client`, if the path is its own, and what the path means.
    fn own<'a>(&self, client: Ipv4Addr, path: &'a [u8]) -> Result<(Arc<NodeExport>, Share<'a>), Refusal> {
        let (key, share) =
            parse(path, &self.roots).ok_or(Refusal(MountStat::NotFound, "the path is not that of a node"))?;
        let caller =
            self.exports.by_ip(client).ok_or(Refusal(MountStat::Access, "no node is known at this address"))?;
        let named = match key {
            NodeKey::Ip(ip) => self.exports.by_ip(ip),
            NodeKey::Mac(mac) => self.exports.by_mac(mac),
            NodeKey::Name(name) => self.exports.by_name(name),
        };
        // Whether another node exists is nobody's business: the same answer if it does not.
        if named.is_none_or(|node| node.mac != caller.mac) {
            return Err(Refusal(MountStat::Access, "the path is another node's"));
        }
        Ok((caller, share))
    }

    fn find(&self, caller: &NodeExport, inside: &[&[u8]]) -> Result<(Arc<View>, Ino), Refusal> {
        let view = caller.image.clone().ok_or(Refusal(MountStat::ServerFault, "the node's image is not ready"))?;
        let dir = match inside {
            [] => ROOT,
            parts => view.resolve(&parts.join(&b'/')).map_err(|error| match error {
                ResolveError::NotADirectory => Refusal(MountStat::NotDirectory, "the path leads through a file"),
                _ => Refusal(MountStat::NotFound, "the image has no such directory"),
            })?,
        };
        if view.attr(dir).is_none_or(|attr| attr.kind != FileKind::Directory) {
            return Err(Refusal(MountStat::NotDirectory, "the path is no directory"));
        }
        Ok((view, dir))
    }
}

impl Exporter for NodeExports {
    type Fs = View;

    fn filesystem(&self, client: Ipv4Addr, fsid: u64) -> Option<Arc<View>> {
        self.exports.by_ip(client)?.view(fsid).cloned()
    }

    fn directory(&self, client: Ipv4Addr, fsid: u64) -> Option<Arc<HostDirectory>> {
        let node = self.exports.by_ip(client)?;
        self.exports.persist().directory(node.mac, fsid)
    }

    fn mount(&self, client: Ipv4Addr, path: &[u8]) -> Result<MountPoint<View>, MountStat> {
        let mounted = self.own(client, path).and_then(|(node, share)| match share {
            Share::Image(inside) => {
                let (view, dir) = self.find(&node, &inside)?;
                // The daemon may change the entry at any time: what is there now is added to.
                self.exports.update(node.mac, |node| {
                    if !node.held.iter().any(|held| held.fsid() == view.fsid()) {
                        node.held.push(Arc::clone(&view));
                    }
                });
                self.events.send(Event::Mounted { client, image: view.id().to_owned() });
                Ok(MountPoint::Image { fs: view, dir })
            }
            // "Not found" is how the agent of a node learns that it is to have none: no fault of anybody's.
            Share::Persist => self.exports.persist().mount(node.mac).map(MountPoint::Directory).ok_or_else(|| {
                // One that could not be opened is no reason for a node to believe that it has none.
                if self.exports.persist().wanted(node.mac).is_some() {
                    Refusal(MountStat::ServerFault, "the node's /persist is not open")
                } else {
                    Refusal(MountStat::NotFound, NONE)
                }
            }),
        });
        match mounted {
            Ok(point) => {
                self.counters.mounts.fetch_add(1, Relaxed);
                Ok(point)
            }
            Err(Refusal(stat, reason)) => {
                self.counters.mounts_refused.fetch_add(1, Relaxed);
                if reason != NONE {
                    let path = String::from_utf8_lossy(&path[..path.len().min(EVENT_PATH)]).into_owned();
                    self.events.send(Event::MountRefused { client, path, reason });
                }
                Err(stat)
            }
        }
    }

    fn own_export(&self, client: Ipv4Addr) -> Option<OwnExport> {
        let node = self.exports.by_ip(client)?;
        let root = self.roots.first()?.trim_end_matches('/');
        Some(OwnExport {
            path: format!("{root}/nodes/{}/fs", node.ip),
            host: node.name.clone(),
            mounted: !node.held.is_empty(),
        })
    }
}
