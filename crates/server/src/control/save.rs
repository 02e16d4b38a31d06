//! What a node has changed, as an image.

use std::sync::Arc;

use api::{Problem, ProblemKind, Progress};
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::answer::{Refused, problem};
use super::caller::Caller;
use super::follow::{Standing, follow};
use super::images::{progress_of, receive};
use super::ownership::own_image;
use crate::registration::Input;
use crate::site::Site;

#[derive(Debug, Deserialize)]
pub(crate) struct SaveAs {
    node: String,
    name: String,
    #[serde(default)]
    force: bool,
}

/// Makes an image of what a node runs and what it has changed since it was booted.
#[utoipa::path(post, path = "/v1/images/save",
    params(("node" = String, Query, description = "name, mac or ip"),
           ("name" = String, Query, description = "name of the new image; without a slash it is one of the caller's"),
           ("force" = Option<bool>, Query, description = "even if there is an image of this name")),
    request_body(content_type = "application/octet-stream", description = "the changes, as a layer of an OCI image: a tar"),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn save(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Query(save): Query<SaveAs>,
    body: Body,
) -> Result<Response, Refused> {
    let name = own_image(&caller.user().await?, &save.name)?;
    let images = site.images();
    // From here on nothing is removed: neither what the node runs, nor what comes.
    let _hold = images.hold().await;
    let (node, id, digest) = {
        let state = site.state();
        if state.registrar.image(&name).is_some() && !save.force {
            let message = format!("there is an image {name} already");
            return Err(problem(ProblemKind::InUse, message, Some("take another name, or insist with --force")).into());
        }
        let mac = state.registrar.find_node(&save.node)?;
        let row = state.registrar.device(mac).map(|device| &device.row);
        let (node, held) = row.map(|row| (row.name.clone(), row.held.last().cloned())).unwrap_or_default();
        let id = held.ok_or_else(|| {
            let message = format!("{node} has not mounted any image since its bootloader last ran");
            problem(ProblemKind::Unreachable, message, Some("boot it, and save it when it is up"))
        })?;
        let of_id = state.registrar.images().flat_map(|(_, entry)| entry.variants.values()).find_map(|variant| {
            let is_it = variant.ready().is_some_and(|ready| ready.image_id == id);
            variant.digest().filter(|_| is_it).map(str::to_owned)
        });
        (node, id, of_id)
    };
    if let Some(digest) = digest {
        images.keep_config(&id, &digest).await;
    }
    let upload = images.upload();
    receive(body, &upload).await.map_err(|error| {
        let message = format!("the changes of {node} did not arrive: {error}");
        problem(ProblemKind::Internal, message, Some("nothing was saved"))
    })?;
    let image = images.stack(&id, &upload).await?;
    site.request(Input::Imported { name: name.clone(), images: vec![image] }).await?;
    site.tell(format!("{node} is saved as {name}"));
    Ok(follow(site.clone(), move |site| {
        let state = site.state();
        match state.registrar.image(&name) {
            Some(entry) => match progress_of(&name, entry.variants.values()) {
                Standing::Done(_) => Standing::Done(format!("{node} is saved as {name}")),
                going_or_failed => going_or_failed,
            },
            None => Standing::Failed(problem(ProblemKind::UnknownImage, format!("{name} was removed meanwhile"), None)),
        }
    }))
}
