//! Answers that come line by line while something goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::{Problem, Progress};
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::site::Site;

/// Even if nothing changes, a look is taken this often: time passing is a change, too.
const LOOK: Duration = Duration::from_secs(1);

/// Where something stands.
pub(crate) enum Standing {
    /// It goes on; what to tell now.
    Going(Progress),
    /// It has come to its end.
    Done(String),
    /// It has failed.
    Failed(Problem),
}

/// An answer that tells where something stands each time that this changes, up to its end. `look`
/// is called with the site unlocked, and again after each change.
pub(crate) fn follow(site: Arc<Site>, mut look: impl FnMut(&Site) -> Standing + Send + 'static) -> Response {
    let (lines, stream) = mpsc::channel::<Result<Bytes, Infallible>>(4);
    tokio::spawn(async move {
        let mut changes = site.watch();
        let mut told = None;
        loop {
            let (news, last) = match look(&site) {
                Standing::Going(news) => (news, false),
                Standing::Done(text) => (Progress::Done { text }, true),
                Standing::Failed(error) => (Progress::Failed { error }, true),
            };
            // A client that has gone ends it here at the latest; the work itself goes on.
            if told.as_ref() != Some(&news) {
                if lines.send(Ok(line(&news))).await.is_err() {
                    return;
                }
                told = Some(news);
            }
            if last || lines.is_closed() {
                return;
            }
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(ReceiverStream::new(stream))).into_response()
}

fn line(news: &Progress) -> Bytes {
    // A value of our own type always has a JSON form.
    let mut text = serde_json::to_vec(news).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
