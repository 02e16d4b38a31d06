//! Images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{FileEntry, Image, ImageFormat, ImageState, Layer, Problem, ProblemKind, Progress, Removed};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use boot::Architecture;
use image::archive::Format;
use image::store::Limits;
use image::{Attr, FileKind, ImageDigest, Platform, ResolveError, View};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Refused, problem};
use super::follow::{Standing, follow};
use crate::names;
use crate::registration::{ImageEntry, ImageKey, Input, Job, Pulled, Registrar, Variant, Wanted, architecture_of};
use crate::site::{Exported, Site, Upload};

/// Bytes of a file that are read at once.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    image: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Inside {
    image: String,
    path: String,
}

/// All images.
#[utoipa::path(get, path = "/v1/images", responses((status = 200, body = Vec<Image>)))]
pub(crate) async fn list(State(site): State<Arc<Site>>) -> Json<Vec<Image>> {
    let mut images: Vec<Image> = {
        let state = site.state();
        let entries = state.registrar.images();
        entries.flat_map(|(name, entry)| variants(&state.registrar, name, entry)).collect()
    };
    for image in &mut images {
        let Some(digest) = &image.digest else { continue };
        let Some(info) = site.images().info(digest).await else { continue };
        image.models = info.models;
        image.platform.get_or_insert_with(|| info.platform.to_string());
        image.created = info.created;
        image.size = info.size;
        image.layers =
            info.layers.iter().map(|(diff_id, size)| Layer { diff_id: diff_id.to_string(), size: *size }).collect();
    }
    Json(images)
}

/// The variants of an image. What several groups of machines share is one.
fn variants(registrar: &Registrar, name: &str, entry: &ImageEntry) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for (wanted, variant) in &entry.variants {
        let key = ImageKey { name: name.to_owned(), wanted: wanted.clone() };
        let users = registrar.devices().filter(|device| device.image_key().as_ref() == Some(&key));
        let nodes: Vec<_> = users.map(|device| device.row.name.clone()).collect();
        let digest = variant.digest().map(str::to_owned);
        let same = |image: &&mut Image| image.digest == digest && (digest.is_some() || image.state == variant.state());
        if let Some(image) = images.iter_mut().find(same) {
            image.nodes.extend(nodes);
            // One that is just being looked at is there all the same.
            if matches!(image.state, ImageState::Present) {
                image.state = variant.state();
            }
            continue;
        }
        let architecture = variant.ready().map(|ready| ready.architecture.oci_platform());
        images.push(Image {
            name: name.to_owned(),
            digest,
            state: variant.state(),
            models: variant.content.as_ref().map(|content| content.models.clone()).unwrap_or_default(),
            platform: architecture.map(|(name, variant)| Platform::linux(name, variant).to_string()),
            created: None,
            size: 0,
            layers: Vec::new(),
            nodes,
        });
    }
    images
}

#[derive(Debug, Deserialize)]
pub(crate) struct CloneOf {
    image: String,
    platform: Option<String>,
}

/// The architecture that a person names.
fn architecture(text: Option<&str>) -> Result<Option<Architecture>, Problem> {
    let known = || {
        let all = Architecture::ALL.map(|one| one.oci_platform());
        all.map(|(name, variant)| Platform::linux(name, variant).to_string()).join(", ")
    };
    text.map(|text| {
        Architecture::by_name(text).ok_or_else(|| Problem {
            kind: ProblemKind::BadRequest,
            message: format!("{text:?} is no platform that nodes have"),
            hint: Some(format!("there are {}", known())),
        })
    })
    .transpose()
}

/// Gets an image's current content from its registry, or goes on waiting for a pull that is under way.
#[utoipa::path(post, path = "/v1/images/clone",
    params(("image" = String, Query, description = "name of the image"),
           ("platform" = Option<String>, Query, description = "such as linux/arm64; default: all that is there or wanted")),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"), (status = 400, body = Problem)))]
pub(crate) async fn clone(State(site): State<Arc<Site>>, Query(named): Query<CloneOf>) -> Result<Response, Refused> {
    let name = names::full_image_name(&named.image)
        .map_err(|error| problem(ProblemKind::BadRequest, error.to_string(), None))?;
    let architecture = architecture(named.platform.as_deref())?;
    site.request(Input::Clone { name: name.clone(), architecture }).await?;
    Ok(follow(site, move |site| {
        let state = site.state();
        match state.registrar.image(&name) {
            Some(entry) => match architecture {
                Some(architecture) => progress_of(&name, entry.variants_for(architecture).map(|(_, one)| one)),
                None => progress_of(&name, entry.variants.values()),
            },
            None => Standing::Failed(problem(ProblemKind::UnknownImage, format!("{name} was removed meanwhile"), None)),
        }
    }))
}

/// How far these variants have come: as far as the one that is furthest behind.
pub(super) fn progress_of<'a>(name: &str, variants: impl Iterator<Item = &'a Variant>) -> Standing {
    let variants: Vec<_> = variants.collect();
    let jobs = || variants.iter().map(|variant| &variant.job);
    let mut bytes: Option<(u64, u64)> = None;
    for job in jobs() {
        match job {
            Job::Pulling { trouble: Some(trouble), .. } => {
                return Standing::Going(Progress::Step { text: format!("the registry is asked again: {trouble}") });
            }
            Job::Pulling { done, total, .. } => {
                let (so_far, all) = bytes.unwrap_or_default();
                bytes = Some((so_far + done, all + total));
            }
            _ => {}
        }
    }
    if let Some((done, total)) = bytes {
        return Standing::Going(Progress::Bytes { done, total });
    }
    if jobs().any(|job| matches!(job, Job::Preparing { .. })) {
        return Standing::Going(Progress::Step { text: format!("{name} is being prepared") });
    }
    let failure = jobs().find_map(|job| if let Job::Failed { failure, .. } = job { Some(failure) } else { None });
    if let Some(failure) = failure {
        let kind = if failure.transient { ProblemKind::Unreachable } else { ProblemKind::UnsuitableImage };
        return Standing::Failed(problem(kind, format!("{}: {}", failure.step, failure.cause), None));
    }
    let digests: BTreeSet<_> = variants.iter().filter_map(|variant| variant.digest()).collect();
    Standing::Done(format!("{name} is ready, {}", digests.into_iter().collect::<Vec<_>>().join(" ")))
}

#[derive(Debug, Deserialize)]
pub(crate) struct ImportAs {
    name: Option<String>,
}

/// Takes images from an archive: docker-archive or oci-archive, plain or compressed.
#[utoipa::path(post, path = "/v1/images/import",
    params(("name" = Option<String>, Query, description = "name to give to the one image; default: the archive's own")),
    request_body(content_type = "application/octet-stream", description = "the archive"),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson"), (status = 422, body = Problem)))]
pub(crate) async fn import(
    State(site): State<Arc<Site>>,
    Query(import): Query<ImportAs>,
    body: Body,
) -> Result<Response, Refused> {
    let upload = site.images().upload();
    receive(body, &upload).await.map_err(|error| {
        problem(ProblemKind::Internal, format!("can not take in the archive: {error}"), Some("is the disk full?"))
    })?;
    let mut recorded = Vec::new();
    let images = site.images();
    let record = async |all: BTreeMap<String, Vec<Pulled>>| {
        for (name, images) in all {
            recorded.push(name.clone());
            site.request(Input::Imported { name, images }).await?;
        }
        Ok(())
    };
    images.import(&upload, import.name.as_deref(), record).await?;
    Ok(follow(site.clone(), move |site| {
        let state = site.state();
        let entries = recorded.iter().filter_map(|name| Some((name, state.registrar.image(name)?)));
        for (name, entry) in entries {
            match progress_of(name, entry.variants.values()) {
                Standing::Done(_) => {}
                going_or_failed => return going_or_failed,
            }
        }
        Standing::Done(format!("imported: {}", recorded.join(", ")))
    }))
}

/// Writes a body into the file of an upload, as long as the disk has room for it.
pub(super) async fn receive(body: Body, upload: &Upload) -> std::io::Result<()> {
    let mut file = tokio::fs::File::create(&upload.path).await?;
    let mut chunks = body.into_data_stream();
    let (mut written, mut next_look) = (0, 0);
    while let Some(chunk) = chunks.next().await {
        if written >= next_look {
            if !upload.limits.have_room(&file)? {
                let text = "the disk has no room beside what images.keep_free_mib leaves free";
                return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, text));
            }
            next_look = written + Limits::LOOK_EVERY;
        }
        let chunk = chunk.map_err(std::io::Error::other)?;
        file.write_all(&chunk).await?;
        written += chunk.len() as u64;
    }
    file.flush().await
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExportAs {
    image: String,
    #[serde(default)]
    format: ImageFormat,
    platform: Option<String>,
}

/// An image as an archive: all of its variants, or the one for a platform.
#[utoipa::path(get, path = "/v1/images/export",
    params(("image" = String, Query, description = "name of the image"),
           ("format" = Option<ImageFormat>, Query, description = "default: oci"),
           ("platform" = Option<String>, Query, description = "such as linux/arm64; default: all, if the format allows")),
    responses((status = 200, content_type = "application/x-tar"), (status = 404, body = Problem)))]
pub(crate) async fn export(State(site): State<Arc<Site>>, Query(export): Query<ExportAs>) -> Result<Response, Refused> {
    let wanted = architecture(export.platform.as_deref())?;
    let (name, images) = {
        let state = site.state();
        let name = state.registrar.find_image(&export.image)?;
        let images = state.registrar.image(&name).map(|entry| variants(&state.registrar, &name, entry));
        (name, images.unwrap_or_default())
    };
    let mut there: Vec<(ImageDigest, Platform)> = Vec::new();
    for image in images {
        let Some(text) = &image.digest else { continue };
        let Ok(digest) = text.parse::<ImageDigest>() else { continue };
        let platform = match image.platform.as_deref().and_then(|platform| platform.parse().ok()) {
            Some(platform) => Some(platform),
            None => site.images().info(text).await.map(|info| info.platform),
        };
        there.extend(platform.map(|platform| (digest, platform)));
    }
    let all: Vec<_> = there.iter().map(|(_, platform)| platform.to_string()).collect();
    let not_there = |what: String, hint: Option<&str>| problem(ProblemKind::UnknownImage, what, hint);
    if let Some(wanted) = wanted {
        there.retain(|(_, platform)| architecture_of(platform) == Some(wanted));
    }
    let exported = match (&there[..], export.format) {
        ([], _) if all.is_empty() => return Err(not_there(format!("image {name} has not arrived yet"), None).into()),
        ([], _) => {
            let what = format!("image {name} is here for {} only", all.join(", "));
            return Err(not_there(what, Some("`walt image clone --platform` gets another variant")).into());
        }
        ([(digest, _)], ImageFormat::Oci) => Exported::One(*digest, Format::OciArchive),
        ([(digest, _)], ImageFormat::Docker) => Exported::One(*digest, Format::DockerArchive),
        (_, ImageFormat::Oci) => Exported::Index(there),
        (_, ImageFormat::Docker) => {
            let what = format!("docker's format holds one variant, and image {name} is here for {}", all.join(", "));
            return Err(problem(ProblemKind::BadRequest, what, Some("say which one with --platform")).into());
        }
    };
    let chunks = site.images().export(exported, &name);
    let headers = [(CONTENT_TYPE, "application/x-tar")];
    Ok((headers, Body::from_stream(ReceiverStream::new(chunks))).into_response())
}

/// Forgets an image and frees what nothing else uses.
#[utoipa::path(delete, path = "/v1/images", params(("image" = String, Query, description = "name of the image")),
    responses((status = 200, body = Removed), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn remove(
    State(site): State<Arc<Site>>,
    Query(named): Query<Named>,
) -> Result<Json<Removed>, Refused> {
    let name = site.state().registrar.find_image(&named.image)?;
    site.request(Input::Remove { name: name.clone() }).await?;
    Ok(Json(Removed { name }))
}

/// What is in a directory of an image (or the one file that the path names).
#[utoipa::path(get, path = "/v1/images/files",
    params(("image" = String, Query, description = "name of the image"), ("path" = String, Query, description = "path in it")),
    responses((status = 200, body = Vec<FileEntry>), (status = 404, body = Problem)))]
pub(crate) async fn files(
    State(site): State<Arc<Site>>,
    Query(inside): Query<Inside>,
) -> Result<Json<Vec<FileEntry>>, Refused> {
    let view = open(&site, &inside.image).await?;
    let (ino, attr) = resolve(&view, &inside)?;
    let Some(entries) = view.readdir(ino, 0) else {
        let name = inside.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return Ok(Json(vec![file_entry(&view, name.as_bytes(), ino, &attr)]));
    };
    let entries = entries.filter(|entry| entry.name != b"." && entry.name != b"..");
    Ok(Json(
        entries.filter_map(|entry| Some(file_entry(&view, entry.name, entry.ino, &view.attr(entry.ino)?))).collect(),
    ))
}

/// Content of a file of an image.
#[utoipa::path(get, path = "/v1/images/content",
    params(("image" = String, Query, description = "name of the image"), ("path" = String, Query, description = "path in it")),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404, body = Problem)))]
pub(crate) async fn content(State(site): State<Arc<Site>>, Query(inside): Query<Inside>) -> Result<Response, Refused> {
    let view = open(&site, &inside.image).await?;
    let (ino, attr) = resolve(&view, &inside)?;
    if attr.kind != FileKind::Regular {
        let message = format!("{} in {} is a {}, not a file", inside.path, inside.image, kind(attr.kind));
        return Err(problem(ProblemKind::UnknownPath, message, Some("`walt image ls` lists directories")).into());
    }
    let (chunks, stream) = mpsc::channel::<std::io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut offset = 0;
        while offset < attr.size {
            let mut chunk = vec![0; CHUNK];
            let read = view.read_at(ino, offset, &mut chunk).and_then(|read| match read {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            });
            let read = match read {
                Ok(read) => read,
                // The connection breaks, so that the client does not take a part for the whole.
                Err(error) => return drop(chunks.blocking_send(Err(error))),
            };
            chunk.truncate(read);
            offset += read as u64;
            if chunks.blocking_send(Ok(chunk.into())).is_err() {
                return;
            }
        }
    });
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, attr.size.to_string())];
    Ok((headers, Body::from_stream(ReceiverStream::new(stream))).into_response())
}

/// The view of an image, prepared if it is not.
async fn open(site: &Arc<Site>, text: &str) -> Result<Arc<View>, Refused> {
    let (name, digest, id) = {
        let state = site.state();
        let name = state.registrar.find_image(text)?;
        // What is the same in all variants may be read from any; PCs' comes first.
        let content = state.registrar.image(&name).and_then(|entry| entry.content_for(&Wanted::anything()));
        let content = content.or_else(|| {
            let variants = state.registrar.image(&name)?.variants.values();
            variants.rev().find_map(|variant| variant.content.as_ref())
        });
        let id = content.and_then(|content| Some(content.ready.as_ref()?.image_id.clone()));
        (name, content.map(|content| content.digest.clone()), id)
    };
    if let Some(view) = id.and_then(|id| site.images().view(&id)) {
        return Ok(view);
    }
    let not_there = || problem(ProblemKind::UnknownImage, format!("image {name} has not arrived yet"), None);
    let digest = digest.ok_or_else(not_there)?;
    let view = site.images().open(&name, &digest).await;
    view.map_err(|failure| problem(ProblemKind::Internal, failure.cause, None).into())
}

fn resolve(view: &View, inside: &Inside) -> Result<(u64, Attr), Refused> {
    let why = match view.resolve(inside.path.as_bytes()) {
        Ok(ino) => match view.attr(ino) {
            Some(attr) => return Ok((ino, attr)),
            None => "does not exist",
        },
        Err(ResolveError::NotFound) => "does not exist",
        Err(ResolveError::NotADirectory) => "leads through something that is no directory",
        Err(ResolveError::TooManySymlinks) => "leads through too many symlinks",
    };
    let message = format!("{} {why} in {}", inside.path, inside.image);
    Err(problem(ProblemKind::UnknownPath, message, Some("`walt image ls` lists directories")).into())
}

fn file_entry(view: &View, name: &[u8], ino: u64, attr: &Attr) -> FileEntry {
    FileEntry {
        name: String::from_utf8_lossy(name).into_owned(),
        kind: kind(attr.kind).to_owned(),
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        mtime: attr.mtime.secs,
        target: view.readlink(ino).map(|target| String::from_utf8_lossy(target).into_owned()),
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::BlockDevice => "block",
        FileKind::CharDevice => "char",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}
