//! `/api/v1/events`: states of nodes as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::Problem;
use axum::extract::{Extension, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::news::{News, Told};
use super::seats::Seat;
use super::{Peer, Web, busy};
use crate::control::Refused;

/// Silence after which a comment is sent, so that proxies and clients know that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where all nodes stand (event `snapshot`), and then each change of one (event `node`, or `forgotten`).
///
/// A client that can not follow gets another snapshot in place of what it has missed.
#[utoipa::path(get, path = "/api/v1/events", tag = "web",
    responses((status = 200, content_type = "text/event-stream", body = String,
               description = "server-sent events; their data is a Snapshot, a NodeNews or a Forgotten"),
              (status = 503, body = Problem)))]
pub(crate) async fn follow(
    State(web): State<Web>,
    Extension(Peer(client)): Extension<Peer>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let seat = web.listeners.take(client).ok_or_else(|| busy("events"))?;
    let listening = Listening::new(web.news, seat);
    let stream =
        stream::unfold(listening, async |mut listening| Some((Ok(event(&listening.next().await?)), listening)));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// A client that listens.
struct Listening {
    news: Arc<News>,
    snapshot: Option<String>,
    events: broadcast::Receiver<Told>,
    /// It is free when the client has gone.
    _seat: Seat,
}

impl Listening {
    fn new(news: Arc<News>, seat: Seat) -> Self {
        let (snapshot, events) = news.listen();
        Self { news, snapshot: Some(snapshot), events, _seat: seat }
    }

    /// The next event, when the connection has taken the one before; `None` at the end of the daemon.
    async fn next(&mut self) -> Option<Told> {
        let snapshot = |data: String| Told { event: "snapshot", data: data.into() };
        if let Some(data) = self.snapshot.take() {
            return Some(snapshot(data));
        }
        match self.events.recv().await {
            Ok(told) => Some(told),
            Err(RecvError::Lagged(_)) => {
                // What is still in the queue is older than the snapshot.
                let (data, events) = self.news.listen();
                self.events = events;
                Some(snapshot(data))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

fn event(told: &Told) -> Event {
    Event::default().event(told.event).data(&*told.data)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use api::Snapshot;

    use super::super::seats::Seats;
    use super::super::tests::register;
    use super::*;
    use crate::registration::Input;
    use crate::site::for_tests::site;

    #[tokio::test]
    async fn who_is_too_slow_begins_anew() {
        let (site, _kept) = site().await;
        register(&site, 1).await;
        let news = News::new(site.clone());
        let seats = Seats::new(2, 2);
        let seat = || seats.take(IpAddr::from([10, 0, 0, 9])).unwrap();
        let (mut slow, mut quick) = (Listening::new(news.clone(), seat()), Listening::new(news.clone(), seat()));
        assert_eq!(slow.next().await.unwrap().event, "snapshot");
        assert_eq!(quick.next().await.unwrap().event, "snapshot");
        for n in 0..1500 {
            let (device, name) = ("02:00:00:00:00:01".to_owned(), format!("name-{n}"));
            site.request(Input::Rename { device, name: name.clone() }).await.unwrap();
            news.look_now();
            let told = quick.next().await.unwrap();
            assert!(told.event == "node" && told.data.contains(&name), "{told:?}");
        }
        let told = slow.next().await.unwrap();
        assert_eq!(told.event, "snapshot");
        let snapshot: Snapshot = serde_json::from_str(&told.data).unwrap();
        assert_eq!((snapshot.nodes.len(), &*snapshot.nodes[0].name), (1, "name-1499"));
        register(&site, 2).await;
        news.look_now();
        let told = slow.next().await.unwrap();
        assert!(told.event == "node" && told.data.contains("02:00:00:00:00:02"), "{told:?}");
        drop((slow, quick));
        assert_eq!(seats.taken(), 0);
    }
}
