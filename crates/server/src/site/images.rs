//! The images on disk: pulling, preparing, opening and freeing them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::mount::Mounts;
use image::server_layer::{self, Base};
use image::store::Hold;
use image::{ImageDigest, ImageInfo, LayerFiles, PullError, PullProgress, Reference, RegistrySettings, Store, View};
use tokio::sync::Semaphore;

use super::Site;
use crate::registration::{Failure, ImageKey, Input, Prepared, Pulled, architecture_of};
use crate::server_files::{AgentError, ServerIdentity};

/// Images that are prepared at once: each costs a processor for a second or so.
const PREPARED_AT_ONCE: usize = 2;

/// Images that are pulled at once: more would share the same line, and the names of default images come from nodes.
const PULLED_AT_ONCE: usize = 8;

/// The store, and the views that are open.
#[derive(Debug)]
pub struct Images {
    pub(super) store: Store,
    layers: Arc<LayerFiles>,
    mounts: Arc<Mounts>,
    identity: ServerIdentity,
    registries: RegistrySettings,
    views: Mutex<HashMap<String, Arc<View>>>,
    preparing: Semaphore,
    pulling: Semaphore,
}

impl Images {
    /// The images of `store`.
    pub fn new(store: Store, identity: ServerIdentity, registries: RegistrySettings) -> Self {
        let layers = Arc::new(LayerFiles::new(store.layers_dir()));
        let mounts = Arc::new(Mounts::new(store.images_dir()));
        let preparing = Semaphore::new(PREPARED_AT_ONCE);
        let pulling = Semaphore::new(PULLED_AT_ONCE);
        Self { store, layers, mounts, identity, registries, views: Mutex::default(), preparing, pulling }
    }

    /// What the server puts into every image.
    pub fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    /// The view of this id, if it is open.
    pub fn view(&self, id: &str) -> Option<Arc<View>> {
        self.views().get(id).cloned()
    }

    /// Keeps garbage collection away.
    pub async fn hold(&self) -> Hold {
        self.store.hold().await
    }

    /// What an image is.
    pub async fn info(&self, digest: &str) -> Option<ImageInfo> {
        let digest: ImageDigest = digest.parse().ok()?;
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.info(&digest).ok()).await.ok()?
    }

    pub(super) async fn pull(&self, site: &Arc<Site>, key: &ImageKey) -> Result<Pulled, Failure> {
        let name = &key.name;
        let failure = |cause: String, transient| Failure { step: "pull", cause, transient };
        let reference: Reference = name.parse().map_err(|error| failure(format!("{error}"), false))?;
        let platforms = key.wanted.platforms();
        let tell = |done, total| site.pull_news(Input::Progress { key: key.clone(), done, total });
        let progress = |news: PullProgress| match news {
            PullProgress::Resolved { bytes, .. } => tell(0, bytes),
            PullProgress::Bytes { done, total } => tell(done, total),
            PullProgress::LayerDone { diff_id, size } => tracing::debug!(name, %diff_id, size, "layer stored"),
            PullProgress::Retry(retry) => {
                let cause = format!("{} (attempt {} of {})", retry.cause, retry.attempt, retry.of);
                tracing::warn!(name, cause, "pull is tried again");
                site.pull_news(Input::Retrying { key: key.clone(), cause });
            }
        };
        let _turn = self.pulling.acquire().await;
        let pulled = self.store.pull_best(&reference, &platforms, &self.registries, progress).await;
        let image::store::Pulled { digest, source } =
            pulled.map_err(|error| failure(error.to_string(), is_transient(&error)))?;
        let info = self.info(&digest.to_string()).await;
        let info = info.ok_or_else(|| failure(format!("{name}: its configuration can not be read again"), true))?;
        Ok(Pulled { digest: digest.to_string(), models: info.models, source })
    }

    /// Makes what is missing of the image and opens it.
    pub(super) async fn prepare(&self, name: &str, digest: &str) -> Result<Prepared, Failure> {
        let failure = |cause: String, transient| Failure { step: "prepare", cause, transient };
        let digest: ImageDigest = digest.parse().map_err(|error| failure(format!("{name}: {error}"), false))?;
        let _turn = self.preparing.acquire().await;
        let _hold = self.store.hold().await;
        let (store, layers, identity) = (self.store.clone(), self.layers.clone(), self.identity.clone());
        let task = tokio::task::spawn_blocking(move || {
            // A layer that is missing or damaged: what is on disk does not help, the registry may.
            let info = store.info(&digest).map_err(|error| Failure {
                step: "check",
                cause: error.to_string(),
                transient: true,
            })?;
            let failure = |cause: String| Failure { step: "prepare", cause, transient: true };
            let base = Base::new(&layers, info.layers.iter().map(|(diff_id, _)| *diff_id));
            let platform = store.platform(&digest, &base).map_err(|error| failure(error.to_string()))?;
            let architecture = architecture_of(&platform).ok_or_else(|| Failure {
                step: "check",
                cause: format!("it is built for {platform}, and there is no agent for that"),
                transient: false,
            })?;
            let files = identity.files(architecture).map_err(|error| Failure {
                step: "prepare",
                cause: error.to_string(),
                // Somebody must build it: what waits for it asks again.
                transient: !matches!(error, AgentError::Missing { .. }),
            })?;
            let view = server_layer::prepare(&store.images_dir(), &digest, &base, &files);
            let view = view.map_err(|error| failure(error.to_string()))?;
            // What a node changes is saved as a layer on this, whatever the name stands for by then.
            store.keep_config(view.id(), &digest).map_err(|error| failure(format!("its configuration: {error}")))?;
            Ok((view, info.models, architecture))
        });
        let (view, models, architecture) = match task.await {
            Ok(result) => {
                result.map_err(|error: Failure| Failure { cause: format!("{name}: {}", error.cause), ..error })?
            }
            Err(panic) => return Err(failure(format!("{name}: {panic}"), false)),
        };
        let image_id = view.id().to_owned();
        self.views().insert(image_id.clone(), view.clone());
        self.mount(view).await;
        Ok(Prepared { image_id, models, architecture })
    }

    /// The view of an image, prepared if it is not.
    ///
    /// # Errors
    /// It can not be prepared.
    pub async fn open(&self, name: &str, digest: &str) -> Result<Arc<View>, Failure> {
        let id = self.prepare(name, digest).await?.image_id;
        let cause = format!("{name}: the view {id} was closed at once");
        self.view(&id).ok_or(Failure { step: "prepare", cause, transient: true })
    }

    /// Mounts an image for the people and tools of the server. Serving nodes does without.
    async fn mount(&self, view: Arc<View>) {
        let mounts = self.mounts.clone();
        let task = tokio::task::spawn_blocking(move || {
            if let Err(error) = mounts.mount(&view) {
                tracing::warn!(image = view.id(), %error, "can not mount an image; nodes are served all the same");
            }
        });
        // A panic has been logged.
        let _ = task.await;
    }

    /// Mounts all images that are open, and removes the mounts that a daemon before has left.
    pub async fn mount_all(&self) {
        let views: Vec<_> = self.views().values().cloned().collect();
        for view in views {
            self.mount(view).await;
        }
    }

    /// Ends all mounts.
    pub async fn unmount_all(&self) {
        let ids: Vec<_> = self.views().keys().cloned().collect();
        self.unmount(ids).await;
    }

    async fn unmount(&self, ids: Vec<String>) {
        let mounts = self.mounts.clone();
        let task = tokio::task::spawn_blocking(move || ids.iter().for_each(|id| mounts.unmount(id)));
        let _ = task.await;
    }

    /// Removes the mounts that a daemon before has left.
    pub async fn clean_stale_mounts(&self) {
        let mounts = self.mounts.clone();
        let cleaned = tokio::task::spawn_blocking(move || mounts.clean_stale()).await;
        match cleaned {
            Ok(Ok(stale)) if stale.is_empty() => {}
            Ok(Ok(stale)) => tracing::info!(?stale, "stale mounts removed"),
            Ok(Err(error)) => tracing::warn!(%error, "can not remove stale mounts"),
            Err(_) => {}
        }
    }

    /// Opens images that were prepared before the daemon was started.
    pub(super) async fn reopen(&self, ids: BTreeSet<String>) {
        let (store, layers) = (self.store.clone(), self.layers.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let open = |id: String| match View::open(&store.images_dir().join(&id).join("index"), &layers) {
                Ok(view) => Some((id, Arc::new(view))),
                Err(error) => {
                    tracing::error!(id, %error, "can not open an image that nodes may still use");
                    None
                }
            };
            ids.into_iter().filter_map(open).collect::<Vec<_>>()
        });
        match opened.await {
            Ok(opened) => self.views().extend(opened),
            Err(panic) => tracing::error!(%panic, "opening the images of nodes"),
        }
    }

    /// Frees what is neither of `digests` nor of `ids`; false if it has to be tried again later.
    pub(super) async fn collect_garbage(&self, digests: HashSet<ImageDigest>, ids: HashSet<String>) -> bool {
        self.views().retain(|id, _| ids.contains(id));
        let (store, mounts) = (self.store.clone(), self.mounts.clone());
        let task = tokio::task::spawn_blocking(move || store.collect_garbage(&digests, &ids, |id| mounts.unmount(id)));
        match task.await {
            Ok(Ok(collected)) => !collected.deferred,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the disk is not freed");
                true
            }
            // A panic has been logged.
            Err(_) => true,
        }
    }

    fn views(&self) -> MutexGuard<'_, HashMap<String, Arc<View>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it may help to try the same again.
fn is_transient(error: &PullError) -> bool {
    match error {
        // A registry that has no such image may get it any moment, but it must be pushed by somebody:
        // it is asked again, as all else that is not about the image's own content.
        PullError::NotFound { .. } | PullError::Denied { .. } | PullError::Unreachable { .. } => true,
        PullError::Protocol { .. } | PullError::Credentials { .. } | PullError::Write { .. } => true,
        PullError::WrongDigest { .. } | PullError::Layer { .. } => true,
        PullError::Manifest { .. } | PullError::Config { .. } | PullError::NoSuchPlatform { .. } => false,
    }
}
