//! Logs and checkpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Checkpoint, LogLine, Problem, ProblemKind};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use tokio_stream::StreamExt;

use super::answer::{Refused, problem};
use super::caller::Caller;
use crate::logs::{Filter, Range, Reading, Wanted};
use crate::registry::Issuer;
use crate::site::{Site, now_ms};

/// Largest compiled form of an expression that a client may give, in bytes.
const MAX_REGEX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    history: Option<String>,
    #[serde(default)]
    realtime: bool,
    issuers: Option<String>,
    streams: Option<String>,
    lines: Option<String>,
}

/// Lines of the past, and then of the present for as long as the client listens: one JSON object a line.
#[utoipa::path(get, path = "/v1/logs",
    params(("history" = Option<String>, Query, description = "`full`, `none` or `[START]:[END]`, each end an offset such as -5m or a checkpoint; default: none"),
           ("realtime" = Option<bool>, Query, description = "lines that come from now on, too"),
           ("issuers" = Option<String>, Query, description = "set of nodes, with `server` if wanted; default: all"),
           ("streams" = Option<String>, Query, description = "expression that matches in the stream's name"),
           ("lines" = Option<String>, Query, description = "expression that matches in the line")),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"),
              (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(which): Query<Which>,
) -> Result<Response, Refused> {
    let user = caller.user().await?;
    let wanted = wanted(&site, &user, &which)?;
    let reading = Reading::begin(site, wanted).await;
    let reading = reading.map_err(|error| problem(ProblemKind::Internal, error.to_string(), None))?;
    // An error ends the body without its last chunk: the client sees that it is not all.
    let body = reading.lines().map(|batch| batch.map(|lines| text_of(&lines)));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

fn wanted(site: &Site, user: &str, which: &Which) -> Result<Wanted, Problem> {
    let state = site.state();
    let history = which.history.as_deref().unwrap_or("none");
    let history = Range::parse(history, now_ms() * 1000, |name| state.checkpoints.get(user, name));
    let history = history.map_err(|error| {
        let hint = "a range is `full`, or `START:END` with ends such as -40s, -5m, -1h, -10d, a checkpoint, or nothing";
        problem(ProblemKind::BadRequest, error.to_string(), Some(hint))
    })?;
    let issuers = which.issuers.as_deref().map(|set| issuers(&state, set, user)).transpose()?;
    let filter = Filter { issuers, stream: regex(which.streams.as_deref())?, line: regex(which.lines.as_deref())? };
    Ok(Wanted { history, realtime: which.realtime, filter })
}

/// The issuers of a set of nodes in which `server` stands for this server.
fn issuers(state: &crate::site::State, set: &str, user: &str) -> Result<BTreeSet<Issuer>, Problem> {
    let (servers, nodes): (Vec<_>, Vec<_>) = set.split(',').map(str::trim).partition(|part| *part == "server");
    let mut issuers: BTreeSet<_> = servers.iter().map(|_| Issuer::Server).collect();
    if !nodes.is_empty() {
        issuers.extend(state.registrar.find_set(&nodes.join(","), user)?.into_iter().map(Issuer::Device));
    }
    Ok(issuers)
}

fn regex(text: Option<&str>) -> Result<Option<Regex>, Problem> {
    let compile = |text| RegexBuilder::new(text).size_limit(MAX_REGEX).build();
    let compiled = text.map(compile).transpose();
    compiled.map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default().trim();
        let message = format!("{:?} is no regular expression: {last}", text.unwrap_or_default());
        problem(ProblemKind::BadRequest, message, Some("the syntax is that of https://docs.rs/regex"))
    })
}

fn text_of(batch: &[LogLine]) -> Bytes {
    let mut text = Vec::with_capacity(batch.len() * 128);
    for line in batch {
        // A value of our own type always has a JSON form, and memory takes all of it.
        let _ = serde_json::to_writer(&mut text, line);
        text.push(b'\n');
    }
    text.into()
}

/// The caller's checkpoints, the oldest first.
#[utoipa::path(get, path = "/v1/checkpoints", responses((status = 200, body = Vec<Checkpoint>)))]
pub(crate) async fn checkpoints(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Vec<Checkpoint>>, Refused> {
    let user = caller.user().await?;
    let all = site.state().checkpoints.of(&user).into_iter();
    Ok(Json(all.map(|(name, at_us)| Checkpoint { name, timestamp_us: Some(at_us) }).collect()))
}

/// Adds a checkpoint.
#[utoipa::path(post, path = "/v1/checkpoints", request_body = Checkpoint,
    responses((status = 200, body = Checkpoint), (status = 400, body = Problem)))]
pub(crate) async fn add_checkpoint(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wanted): Json<Checkpoint>,
) -> Result<Json<Checkpoint>, Refused> {
    let user = caller.user().await?;
    let at_us = wanted.timestamp_us.unwrap_or_else(|| now_ms() * 1000);
    let added = site.state().checkpoints.add(&user, &wanted.name, at_us);
    let row = added.map_err(|error| problem(ProblemKind::BadRequest, error.to_string(), None))?;
    site.registry().checkpoint(row);
    Ok(Json(Checkpoint { name: wanted.name, timestamp_us: Some(at_us) }))
}

/// Removes a checkpoint.
#[utoipa::path(delete, path = "/v1/checkpoints/{name}", params(("name" = String, Path, description = "name")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn remove_checkpoint(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    let user = caller.user().await?;
    if !site.state().checkpoints.remove(&user, &name) {
        let hint = "`walt log list-checkpoints` lists them";
        let message = format!("you have no checkpoint {name:?}");
        return Err(problem(ProblemKind::UnknownCheckpoint, message, Some(hint)).into());
    }
    site.registry().remove_checkpoint(user, name);
    Ok(StatusCode::NO_CONTENT)
}
