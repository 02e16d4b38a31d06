//! `/api/v1/logs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{LogLine, Problem, ProblemKind, WebLog, WebLogs};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use regex::Regex;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::query::Filters;
use super::seats::Seat;
use super::{Peer, Web, busy};
use crate::control::{Refused, problem};
use crate::logs::{Filter, Range, ReadError, Reading, Wanted};
use crate::registry::Issuer;
use crate::site::{Site, State as SiteState};

const FILTERS: [&str; 5] = ["from", "to", "ts_unit", "issuer", "stream"];

/// Unit of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Log lines of a range of time.
#[utoipa::path(get, path = "/api/v1/logs", tag = "web",
    params(("from" = f64, Query, description = "first moment, in seconds since 1970"),
           ("to" = f64, Query, description = "first moment that is too late"),
           ("ts_unit" = Option<String>, Query, description = "`s` (default) or `ms`: unit of `from`, `to` and timestamps"),
           ("issuer" = Option<String>, Query, description = "name of a node, or `server`"),
           ("stream" = Option<String>, Query, description = "name of a stream")),
    responses((status = 200, body = WebLogs), (status = 400, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(web): State<Web>,
    State(site): State<Arc<Site>>,
    Extension(Peer(client)): Extension<Peer>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refused> {
    let filters = Filters::new(query, &FILTERS)?;
    let (unit, history) = range(&filters)?;
    let filter = Filter {
        issuers: filters.text("issuer").map(|name| issuers(&site.state(), name)),
        stream: filters.text("stream").map(exactly).transpose()?,
        line: None,
    };
    let seat = web.readers.take(client).ok_or_else(|| busy("log lines"))?;
    let reading = Reading::begin(site, Wanted { history: Some(history), realtime: false, filter }).await;
    let reading = reading.map_err(|error| problem(ProblemKind::Internal, error.to_string(), None))?;
    let telling = Telling { lines: reading.lines(), unit, stage: Stage::Begin, count: 0, _seat: seat };
    let body = stream::unfold(telling, async |mut telling| Some((telling.next().await?, telling)));
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// An answer under way.
struct Telling {
    lines: ReceiverStream<Result<Vec<LogLine>, ReadError>>,
    unit: Unit,
    stage: Stage,
    count: u64,
    /// It is free when the lines are through, or the client has gone.
    _seat: Seat,
}

enum Stage {
    Begin,
    Lines,
    Over,
}

impl Telling {
    /// The next piece. After an error nothing follows: the body must not look whole.
    async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        match self.stage {
            Stage::Begin => {
                self.stage = Stage::Lines;
                Some(Ok(Bytes::from_static(b"{\"logs\":[")))
            }
            Stage::Lines => match self.lines.next().await {
                Some(batch) => {
                    if batch.is_err() {
                        self.stage = Stage::Over;
                    }
                    Some(batch.map(|batch| self.text_of(batch)))
                }
                None => {
                    self.stage = Stage::Over;
                    Some(Ok(Bytes::from(format!("],\"num_logs\":{}}}\n", self.count))))
                }
            },
            Stage::Over => None,
        }
    }

    fn text_of(&mut self, batch: Vec<LogLine>) -> Bytes {
        let mut text = Vec::with_capacity(batch.len() * 128);
        for LogLine { timestamp_us, issuer, stream, line } in batch {
            if self.count > 0 {
                text.extend_from_slice(b",\n");
            }
            self.count += 1;
            let line = WebLog { timestamp: self.unit.of_microseconds(timestamp_us), line, issuer, stream };
            // A value of our own type always has a JSON form, and memory takes all of it.
            let _ = serde_json::to_writer(&mut text, &line);
        }
        text.into()
    }
}

fn range(filters: &Filters) -> Result<(Unit, Range), Problem> {
    let unit = filters.value("ts_unit", "s or ms", |text| match text {
        "s" => Some(Unit::Seconds),
        "ms" => Some(Unit::Milliseconds),
        _ => None,
    })?;
    let unit = unit.unwrap_or(Unit::Seconds);
    let moment = |name: &str| {
        let read = |text: &str| unit.microseconds(text.parse().ok()?);
        let moment = filters.value(name, "a number of seconds (or with ts_unit=ms milliseconds) since 1970", read)?;
        let hint = "from and to begin and end the range: /api/v1/logs?from=1727090181&to=1727101440";
        moment.ok_or_else(|| problem(ProblemKind::BadRequest, format!("{name} is missing"), Some(hint)))
    };
    let (from_us, until_us) = (moment("from")?, moment("to")?);
    if from_us > until_us {
        return Err(problem(ProblemKind::BadRequest, "the range ends before it begins: from is above to", None));
    }
    Ok((unit, Range { from_us, until_us }))
}

impl Unit {
    /// `None` for what is no moment.
    fn microseconds(self, number: f64) -> Option<i64> {
        let factor = match self {
            Self::Seconds => 1e6,
            Self::Milliseconds => 1e3,
        };
        let microseconds = (number * factor).round();
        // Beyond the range of the type a cast takes its end.
        microseconds.is_finite().then_some(microseconds as i64)
    }

    fn of_microseconds(self, number: i64) -> f64 {
        // Exact up to the year 2255.
        match self {
            Self::Seconds => number as f64 / 1e6,
            Self::Milliseconds => number as f64 / 1e3,
        }
    }
}

/// Who has this name, or nobody.
fn issuers(state: &SiteState, name: &str) -> BTreeSet<Issuer> {
    let named = || state.registrar.devices().find(|device| device.row.name == name);
    // What WalT calls its server; and as nodes are listed that were forgotten.
    let issuer = match name {
        "server" | "walt-server" => Some(Issuer::Server),
        _ => named().map(|device| device.row.mac).or_else(|| name.parse().ok()).map(Issuer::Device),
    };
    issuer.into_iter().collect()
}

/// Matches this text and no other.
fn exactly(text: &str) -> Result<Regex, Problem> {
    let expression = Regex::new(&format!(r"\A{}\z", regex::escape(text)));
    expression.map_err(|_| problem(ProblemKind::BadRequest, "the name of the stream is too long", None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<(Unit, Range), String> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        range(&Filters::new(query, &FILTERS).unwrap()).map_err(|problem| problem.message)
    }

    #[test]
    fn ranges_are_numbers_of_seconds_or_of_milliseconds() {
        let seconds = Range { from_us: 1_727_090_181_324_492, until_us: 1_727_101_440_000_000 };
        assert_eq!(read(&[("from", "1727090181.324492"), ("to", "1727101440")]), Ok((Unit::Seconds, seconds)));
        let ms = [("from", "1727090181324.492"), ("to", "1.72710144e12"), ("ts_unit", "ms")];
        assert_eq!(read(&ms), Ok((Unit::Milliseconds, seconds)));
        let all = Range { from_us: i64::MIN, until_us: i64::MAX };
        assert_eq!(read(&[("from", "-1e300"), ("to", "1e300")]), Ok((Unit::Seconds, all)));
        for (query, why) in [
            (&[("from", "1")][..], "to is missing"),
            (&[("to", "1")], "from is missing"),
            (&[("from", "2"), ("to", "1")], "ends before"),
            (&[("from", "nan"), ("to", "1")], "is not a number"),
            (&[("from", "1"), ("to", "inf")], "is not a number"),
            (&[("from", "1e308"), ("to", "1e308")], "is not a number"),
            (&[("from", "-5m"), ("to", "1")], "is not a number"),
            (&[("from", "1"), ("to", "1"), ("ts_unit", "us")], "is not s or ms"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.contains(why), "{query:?}: {error}");
        }
    }

    #[test]
    fn timestamps_have_all_their_digits() {
        let text = |unit: Unit, us| serde_json::to_string(&unit.of_microseconds(us)).unwrap();
        assert_eq!(text(Unit::Seconds, 1_727_090_181_324_492), "1727090181.324492");
        assert_eq!(text(Unit::Milliseconds, 1_727_090_181_324_492), "1727090181324.492");
        assert_eq!(text(Unit::Seconds, 5_000_000), "5.0");
    }

    #[test]
    fn a_stream_is_named_whole() {
        let expression = exactly("a.b").unwrap();
        assert!(expression.is_match("a.b") && !expression.is_match("axb") && !expression.is_match("a.b\n"));
    }
}
