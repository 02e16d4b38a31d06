//! Where all nodes stand, and what has changed, for those who listen.
//!
//! One task looks, however many listen: what it finds goes to all of them. A listener that takes it too slowly loses
//! it, and begins anew with how all nodes stand then, so it costs no more memory than any other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Forgotten, NodeNews, NodeState, Registration, Snapshot};
use net::MacAddr;
use tokio::sync::broadcast;

use super::query::{shown_image, shown_ip};
use crate::site::{Site, State, now_ms};

/// Events that may wait for a slow listener.
const QUEUE: usize = 1024;
/// Changes that come closer to one another are told as one.
const PAUSE: Duration = Duration::from_millis(100);
/// Even if nothing changes, a look is taken this often: a node that is silent for long is off.
const LOOK: Duration = Duration::from_secs(1);

/// An event, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// `node` or `forgotten`.
    pub(super) event: &'static str,
    /// JSON.
    pub(super) data: Arc<str>,
}

/// Where all nodes stand.
#[derive(Debug)]
pub(crate) struct News {
    site: Arc<Site>,
    // Locked before the site's state, never within.
    known: Mutex<BTreeMap<MacAddr, NodeNews>>,
    events: broadcast::Sender<Told>,
}

impl News {
    pub(crate) fn new(site: Arc<Site>) -> Arc<Self> {
        Arc::new(Self { site, known: Mutex::default(), events: broadcast::channel(QUEUE).0 })
    }

    /// Tells what changes, for ever.
    ///
    /// # Errors
    /// None.
    pub(crate) async fn run(self: Arc<Self>) -> Result<Infallible, String> {
        let mut changes = self.site.watch();
        loop {
            // The sender lives as long as the site.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
            // Who comes later looks first, see `listen`.
            if self.events.receiver_count() > 0 {
                self.look(&mut self.known());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How all nodes stand (JSON of [`Snapshot`]), and what changes from then on.
    pub(super) fn listen(&self) -> (String, broadcast::Receiver<Told>) {
        let mut known = self.known();
        self.look(&mut known);
        let events = self.events.subscribe();
        let nodes = known.values().cloned().collect();
        drop(known);
        (json(&Snapshot { nodes }), events)
    }

    #[cfg(test)]
    pub(super) fn look_now(&self) {
        self.look(&mut self.known());
    }

    fn look(&self, known: &mut MutexGuard<'_, BTreeMap<MacAddr, NodeNews>>) {
        let now = all(&self.site.state());
        for told in changes(known, &now) {
            // Fails if nobody listens.
            let _ = self.events.send(told);
        }
        **known = now;
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<MacAddr, NodeNews>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(state: &State) -> BTreeMap<MacAddr, NodeNews> {
    let now = now_ms();
    let nodes = state.registrar.devices().filter_map(|device| {
        let row = &device.row;
        let timeline = state.timeline(row.mac);
        let news = NodeNews {
            name: row.name.clone(),
            mac: row.mac.to_string(),
            ip: shown_ip(row.ip),
            model: row.model.clone()?,
            image: row.image.as_deref().map(shown_image),
            state: timeline.map_or(NodeState::Off, |timeline| timeline.state(now)),
            step: timeline.and_then(|timeline| timeline.step(now)),
            registration: state.registrar.registration(device),
        };
        Some((row.mac, news))
    });
    nodes.collect()
}

fn changes(before: &BTreeMap<MacAddr, NodeNews>, now: &BTreeMap<MacAddr, NodeNews>) -> Vec<Told> {
    let is_news = |(mac, news): &(&MacAddr, &NodeNews)| before.get(mac).is_none_or(|old| !is_same(old, news));
    let new = now.iter().filter(is_news).map(|(_, news)| Told { event: "node", data: json(news).into() });
    let gone = before.iter().filter(|(mac, _)| !now.contains_key(mac)).map(|(_, old)| {
        let data = json(&Forgotten { name: old.name.clone(), mac: old.mac.clone() });
        Told { event: "forgotten", data: data.into() }
    });
    new.chain(gone).collect()
}

/// Every few bytes of an image that all nodes wait for would be an event for each of them: only twentieths are.
fn is_same(old: &NodeNews, new: &NodeNews) -> bool {
    let (Registration::Pulling { done, total, .. }, Registration::Pulling { done: now, total: all, .. }) =
        (&old.registration, &new.registration)
    else {
        return old == new;
    };
    let part = |done: u64, total: u64| done.saturating_mul(20).checked_div(total).unwrap_or(0);
    part(*done, *total) == part(*now, *all)
        && *old == NodeNews { registration: old.registration.clone(), ..new.clone() }
        && trouble(old) == trouble(new)
}

fn trouble(news: &NodeNews) -> Option<&str> {
    match &news.registration {
        Registration::Pulling { trouble, .. } => trouble.as_deref(),
        _ => None,
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // A value of our own types always has a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8, state: NodeState, registration: Registration) -> (MacAddr, NodeNews) {
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        let news = NodeNews {
            name: format!("node-{last}"),
            mac: mac.to_string(),
            ip: "10.0.0.1".into(),
            model: "pc-x86-64".into(),
            image: None,
            state,
            step: None,
            registration,
        };
        (mac, news)
    }

    fn pulling(done: u64, trouble: Option<&str>) -> Registration {
        Registration::Pulling { done, total: 1000, trouble: trouble.map(str::to_owned) }
    }

    fn told(before: &[(MacAddr, NodeNews)], now: &[(MacAddr, NodeNews)]) -> Vec<String> {
        let map = |all: &[(MacAddr, NodeNews)]| all.iter().cloned().collect::<BTreeMap<_, _>>();
        let changes = changes(&map(before), &map(now)).into_iter();
        changes
            .map(|told| {
                let data: serde_json::Value = serde_json::from_str(&told.data).unwrap();
                format!("{} {}", told.event, data["name"].as_str().unwrap())
            })
            .collect()
    }

    #[test]
    fn each_change_of_a_node_is_one_event() {
        let off = |last| node(last, NodeState::Off, Registration::Ready);
        assert_eq!(told(&[off(1)], &[off(1)]), Vec::<String>::new());
        assert_eq!(told(&[off(1)], &[off(1), off(2)]), ["node node-2"]);
        let booting = node(1, NodeState::Booting, Registration::Ready);
        assert_eq!(told(&[off(1), off(2)], &[booting]), ["node node-1", "forgotten node-2"]);
    }

    #[test]
    fn of_a_pull_twentieths_are_told() {
        let at = |done, trouble| [node(1, NodeState::Booting, pulling(done, trouble))];
        assert!(told(&at(0, None), &at(49, None)).is_empty());
        assert_eq!(told(&at(49, None), &at(50, None)).len(), 1);
        assert_eq!(told(&at(1, None), &at(2, Some("no answer"))).len(), 1);
        let booted = [node(1, NodeState::Booted, pulling(2, None))];
        assert_eq!(told(&at(1, None), &booted).len(), 1);
        assert_eq!(told(&at(1, None), &[node(1, NodeState::Booting, Registration::Preparing)]).len(), 1);
    }
}
