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
    let (snapshot, events) = web.news.listen();
    let listening = Listening { news: web.news, snapshot: Some(snapshot), events, _seat: seat };
    let stream = stream::unfold(listening, async |mut listening| Some((Ok(listening.next().await?), listening)));
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
    /// The next event, when the connection has taken the one before; `None` at the end of the daemon.
    async fn next(&mut self) -> Option<Event> {
        let snapshot = |data: &str| Event::default().event("snapshot").data(data);
        if let Some(data) = self.snapshot.take() {
            return Some(snapshot(&data));
        }
        match self.events.recv().await {
            Ok(Told { event, data }) => Some(Event::default().event(event).data(&*data)),
            Err(RecvError::Lagged(_)) => Some(snapshot(&self.news.snapshot(&mut self.events))),
            Err(RecvError::Closed) => None,
        }
    }
}
