//! Nodes that people take for themselves.

use std::sync::Arc;

use api::{Problem, ProblemKind, Progress};
use axum::extract::{ConnectInfo, Path, State};
use axum::response::Response;

use super::answer::{Refused, problem};
use super::caller::Caller;
use super::nodes::follow_boot;
use crate::names;
use crate::registration::{ImageKey, Input, Pulled, Wanted};
use crate::site::Site;

/// Makes a node the caller's: it boots an image of theirs from now on, which begins as the default image of its model
/// and is called `<user>/<model>-default`; one that they have made before is taken as it is.
#[utoipa::path(post, path = "/v1/nodes/{node}/acquire", params(("node" = String, Path, description = "name, mac or ip")),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"), (status = 404, body = Problem)))]
pub(crate) async fn acquire(
    State(site): State<Arc<Site>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(node): Path<String>,
) -> Result<Response, Refused> {
    let user = caller.user().await?;
    let (mac, name, of) = {
        let state = site.state();
        let mac = state.registrar.find_node(&node)?;
        let row = state.registrar.device(mac).map(|device| &device.row);
        let Some((name, model)) = row.and_then(|row| Some((row.name.clone(), row.model.clone()?))) else {
            let message = format!("{node} is not a node");
            return Err(
                problem(ProblemKind::UnknownNode, message, Some("`walt node show --all` lists the nodes")).into()
            );
        };
        (mac, name, model)
    };
    let own = own_image(&user, &format!("{of}-default"))?;
    let wanted = Wanted::by_model(&of);
    // The default image may be about to lose its name.
    let hold = site.images().hold().await;
    let begins_as = {
        let state = site.state();
        if state.registrar.image(&own).is_some() {
            None
        } else {
            let default = state.registrar.default_image(&of);
            let variant = state.registrar.variant(&ImageKey { name: default.clone(), wanted });
            let content = variant.and_then(|variant| variant.content.clone()).ok_or_else(|| {
                let message = format!("{name} can not be acquired: its default image {default} has not arrived yet");
                problem(ProblemKind::UnknownImage, message, Some("`walt image show` tells how far it has come"))
            })?;
            Some(Pulled { digest: content.digest, models: content.models, source: content.source })
        }
    };
    if let Some(pulled) = begins_as {
        site.request(Input::Imported { name: own.clone(), images: vec![pulled] }).await?;
    }
    drop(hold);
    site.request(Input::Boot { node: mac.to_string(), image: own }).await?;
    site.tell(format!("{name} is {user}'s from now on"));
    Ok(follow_boot(site, mac))
}

/// Full name of an image of the caller's: `ada/tiny` is taken as it is, and `tiny` is Ada's.
pub(super) fn own_image(user: &str, text: &str) -> Result<String, Problem> {
    let full = if text.contains('/') { text.to_owned() } else { format!("{user}/{text}") };
    names::full_image_name(&full).map_err(|error| problem(ProblemKind::BadRequest, error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_user_is_the_callers() {
        let full = |text| own_image("ada", text).unwrap();
        assert_eq!(full("tiny"), "docker.io/ada/tiny:latest");
        assert_eq!(full("tiny:2"), "docker.io/ada/tiny:2");
        assert_eq!(full("lab/tiny"), "docker.io/lab/tiny:latest");
        assert!(own_image("ada", "Tiny").is_err() && own_image("A da", "tiny").is_err());
    }
}
