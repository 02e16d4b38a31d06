//! `/api/v1/images`.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Problem, WebImage, WebImages};
use axum::Json;
use axum::extract::{Query, State};

use super::query::{Filters, meant_image, shown_image};
use crate::control::Refused;
use crate::registration::{Device, ImageKey, Registrar};
use crate::site::Site;

const FILTERS: [&str; 4] = ["fullname", "user", "id", "in_use"];

/// Images that are on the server.
#[utoipa::path(get, path = "/api/v1/images", tag = "web",
    params(("fullname" = Option<String>, Query, description = "the one of this name"),
           ("user" = Option<String>, Query, description = "those of this user"),
           ("id" = Option<String>, Query, description = "those with this digest"),
           ("in_use" = Option<bool>, Query, description = "those that nodes are to boot, or the others")),
    responses((status = 200, body = WebImages), (status = 400, body = Problem)))]
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<WebImages>, Refused> {
    let filters = Filters::new(query, &FILTERS)?;
    let in_use = filters.boolean("in_use")?;
    let fullname = filters.text("fullname").map(|text| shown_image(&meant_image(text)));
    let id = filters.text("id").map(hex);
    let mut images = all(&site.state().registrar);
    images.retain(|image| {
        fullname.as_ref().is_none_or(|name| image.fullname == *name)
            && filters.text("user").is_none_or(|user| image.user.as_deref() == Some(user))
            && id.is_none_or(|id| image.id == id)
            && in_use.is_none_or(|wanted| image.in_use == wanted)
    });
    for image in &mut images {
        // Its configuration is on the disk; one that has just been removed has none any more.
        let Some(info) = site.images().info(&format!("sha256:{}", image.id)).await else { continue };
        image.compatibility = info.models;
        image.created = info.created.as_deref().and_then(date);
    }
    Ok(Json(WebImages { num_images: images.len(), images }))
}

/// All images that have arrived, as far as memory knows them.
fn all(registrar: &Registrar) -> Vec<WebImage> {
    let used: BTreeSet<ImageKey> = registrar.devices().filter_map(Device::image_key).collect();
    let mut images: Vec<WebImage> = Vec::new();
    for (name, entry) in registrar.images() {
        let first = images.len();
        for (wanted, variant) in &entry.variants {
            let Some(content) = &variant.content else { continue };
            let in_use = used.contains(&ImageKey { name: name.to_owned(), wanted: wanted.clone() });
            let id = hex(&content.digest);
            // What several groups of machines share is one.
            if let Some(same) = images[first..].iter_mut().find(|image| image.id == id) {
                same.in_use |= in_use;
                continue;
            }
            images.push(WebImage {
                fullname: shown_image(name),
                user: user_of(name),
                id: id.to_owned(),
                in_use,
                created: None,
                compatibility: content.models.clone(),
            });
        }
    }
    images
}

/// First part of a name on Docker Hub; other registries have no users that are ours.
fn user_of(full_name: &str) -> Option<String> {
    let (user, _) = full_name.strip_prefix("docker.io/")?.split_once('/')?;
    Some(user.to_owned())
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// `2024-03-12 14:52:47` of a date by RFC 3339, in UTC.
fn date(text: &str) -> Option<String> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    Some(moment.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_utc() {
        assert_eq!(date("2024-03-12T14:52:47.123456789Z").as_deref(), Some("2024-03-12 14:52:47"));
        assert_eq!(date("2024-03-12T14:52:47+02:00").as_deref(), Some("2024-03-12 12:52:47"));
        assert_eq!(date("yesterday"), None);
    }

    #[test]
    fn users_are_those_of_docker_hub() {
        assert_eq!(user_of("docker.io/waltplatform/rpi-debian:bookworm").as_deref(), Some("waltplatform"));
        assert_eq!(user_of("localhost:5000/ada/tiny:v1"), None);
    }
}
