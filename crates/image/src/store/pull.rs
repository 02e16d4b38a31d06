//! From a registry into the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::DiffId;
use crate::config::{ConfigError, ImageConfig};
use crate::digest::{Digest, ImageDigest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::manifest::{Descriptor, Document, IndexEntry, Manifest, choose};
use crate::registry::{Client, FetchError, RegistrySettings};
use crate::store::layer::Expected;
use crate::store::{LayerError, PullError, PullProgress, Retry, Store};

/// Most indexes within indexes.
const MAX_NESTING: usize = 4;
/// Pieces of a layer (some 10 to 400 KiB each) that wait between the network and the decompressor.
const QUEUE: usize = 32;
/// Shortest time between two reports of bytes.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Times that a layer is fetched if it arrives damaged: a bad cache or memory on the way may be better next time.
const FETCHES: usize = 2;

/// An image that is complete in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub digest: ImageDigest,
    /// How it was chosen.
    pub source: Source,
}

/// What a name stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One image, which is the same for every machine, whatever its configuration says of its platform (or an index
    /// with one image alone).
    Plain,
    /// An index, with one image a platform.
    Index {
        /// What the index offers; empty if it can not be told what it offers to another machine, because an entry says
        /// nothing of its platform or is an index itself.
        offered: Vec<Platform>,
        /// The platform of the entry that was taken, as the index has it, if it says so.
        chosen: Option<Platform>,
    },
}

impl Store {
    /// As [`pull_best`](Self::pull_best), for one platform.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        settings: &RegistrySettings,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<ImageDigest, PullError> {
        Ok(self.pull_best(reference, std::slice::from_ref(platform), settings, progress).await?.digest)
    }

    /// Makes the image that `reference` names complete in the store: fetches, verifies and stores its configuration
    /// and those of its layers that are not there yet.
    ///
    /// From an index, it is the image for the first of `platforms` that is offered. A plain manifest is taken whatever
    /// its configuration says that it is built for: many say nothing useful, or lie.
    ///
    /// Two pulls that share a layer fetch it once. Dropping the future ends the pull; layers that are complete by
    /// then stay until the next garbage collection. Needs a tokio runtime with time and I/O.
    pub async fn pull_best(
        &self,
        reference: &Reference,
        platforms: &[Platform],
        settings: &RegistrySettings,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<Pulled, PullError> {
        let on_retry = |retry: Retry| progress(PullProgress::Retry(retry));
        let client = Client::new(reference, settings, &on_retry).map_err(|e| failed(reference, e))?;
        let pull = Pull { store: self, reference, settings, client, progress: &progress };
        pull.run(platforms).await
    }
}

/// One pull on its way.
struct Pull<'a> {
    store: &'a Store,
    reference: &'a Reference,
    settings: &'a RegistrySettings,
    client: Client<'a>,
    progress: &'a (dyn Fn(PullProgress) + Send + Sync),
}

impl Pull<'_> {
    async fn run(&self, platforms: &[Platform]) -> Result<Pulled, PullError> {
        let (manifest, source) = self.manifest(platforms).await?;
        let json = self.client.small_blob(&manifest.config.digest).await.map_err(|e| failed(self.reference, e))?;
        self.verify("configuration", &manifest.config.digest, &json)?;
        let image = ImageDigest(manifest.config.digest);
        let config = ImageConfig::parse(&json).map_err(|source| self.bad_config(source))?;
        // Before a single layer is fetched: is it for us?
        config.walt_labels().map_err(|source| self.bad_config(source))?;
        let _hold = self.store.hold().await;
        self.layers(&manifest, &config).await?;
        self.store.publish_config(&image, &json).map_err(|(path, source)| PullError::Write {
            reference: self.reference.to_string(),
            path,
            source,
        })?;
        Ok(Pulled { digest: image, source })
    }

    /// The manifest for the best of `platforms`, through indexes if need be.
    async fn manifest(&self, platforms: &[Platform]) -> Result<(Manifest, Source), PullError> {
        let mut source = Source::Plain;
        let mut key = self.reference.manifest_key();
        let mut expected = self.reference.digest().copied();
        for _ in 0..MAX_NESTING {
            let fetched = self.client.manifest(&key).await.map_err(|e| failed(self.reference, e))?;
            if let Some(expected) = &expected {
                self.verify("manifest", expected, &fetched.bytes)?;
            }
            let document = Document::parse(&fetched.bytes, fetched.content_type.as_deref())
                .map_err(|source| PullError::Manifest { reference: self.reference.to_string(), source })?;
            let entries = match document {
                Document::Manifest(manifest) => return Ok((manifest, source)),
                Document::Index(entries) => entries,
            };
            if let Some(only) = only_image(&entries) {
                key = only.descriptor.digest.to_string();
                expected = Some(only.descriptor.digest);
                continue;
            }
            let Some(chosen) = choose(&entries, platforms) else {
                return Err(PullError::NoSuchPlatform {
                    reference: self.reference.to_string(),
                    wanted: platforms.to_vec(),
                    offered: offered(&entries).iter().map(Platform::to_string).collect(),
                });
            };
            source = match source {
                Source::Plain => index_source(&entries, chosen),
                Source::Index { chosen, .. } => Source::Index { offered: Vec::new(), chosen },
            };
            key = chosen.descriptor.digest.to_string();
            expected = Some(chosen.descriptor.digest);
        }
        Err(failed(self.reference, FetchError::Protocol(format!("indexes nested more than {MAX_NESTING} deep"))))
    }

    async fn layers(&self, manifest: &Manifest, config: &ImageConfig) -> Result<(), PullError> {
        if manifest.layers.len() != config.diff_ids.len() {
            let (manifest, config) = (manifest.layers.len(), config.diff_ids.len());
            return Err(self.bad_config(ConfigError::LayerCount { manifest, config }));
        }
        let mut missing: Vec<(&DiffId, &Descriptor)> = Vec::new();
        let image_bytes = Arc::new(AtomicU64::new(0));
        for (diff_id, descriptor) in config.diff_ids.iter().zip(&manifest.layers) {
            match self.store.layer_size(diff_id) {
                Some(size) => _ = image_bytes.fetch_add(size, Ordering::Relaxed),
                // One and the same layer may be listed twice (two equal, empty steps of a build).
                None if missing.iter().any(|(d, _)| *d == diff_id) => {}
                None => missing.push((diff_id, descriptor)),
            }
        }
        // The largest first, so that it does not run alone at the end.
        missing.sort_by_key(|(_, descriptor)| std::cmp::Reverse(descriptor.size));
        let total = missing.iter().map(|(_, d)| d.size).fold(0, u64::saturating_add);
        (self.progress)(PullProgress::Resolved { layers: config.diff_ids.len(), missing: missing.len(), bytes: total });
        let report = Report { progress: self.progress, total, state: Mutex::new((0, None)) };
        let (report, image_bytes) = (&report, &image_bytes);
        stream::iter(missing)
            .map(Ok)
            .try_for_each_concurrent(self.settings.parallel_layers.max(1), |(diff_id, descriptor)| async move {
                let size = self.layer(*diff_id, descriptor, image_bytes, report).await?;
                (self.progress)(PullProgress::LayerDone { diff_id: *diff_id, size });
                Ok(())
            })
            .await
    }

    /// One layer; returns the size of its tar.
    async fn layer(
        &self,
        diff_id: DiffId,
        descriptor: &Descriptor,
        image_bytes: &Arc<AtomicU64>,
        report: &Report<'_>,
    ) -> Result<u64, PullError> {
        let lock = self.store.layer_lock(diff_id);
        let _alone = lock.lock().await;
        // Somebody else may have fetched it while we waited.
        if let Some(size) = self.store.layer_size(&diff_id) {
            image_bytes.fetch_add(size, Ordering::Relaxed);
            report.add(descriptor.size);
            return Ok(size);
        }
        let mut fetches = 0;
        loop {
            fetches += 1;
            let error = match self.fetch_layer(diff_id, descriptor, image_bytes, report).await? {
                Ok(size) => return Ok(size),
                Err(error) => error,
            };
            let damaged = matches!(error, LayerError::WrongDigest { .. } | LayerError::Decompress(_));
            if !damaged || fetches == FETCHES {
                return Err(PullError::Layer {
                    reference: self.reference.to_string(),
                    layer: diff_id,
                    source: Box::new(error),
                });
            }
            tracing::warn!(image = %self.reference, layer = %diff_id, %error, "layer: fetching it once more");
        }
    }

    /// Runs the network beside the thread that takes the layer in. The outer error is the network's.
    async fn fetch_layer(
        &self,
        diff_id: DiffId,
        descriptor: &Descriptor,
        image_bytes: &Arc<AtomicU64>,
        report: &Report<'_>,
    ) -> Result<Result<u64, LayerError>, PullError> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
        let expected = Expected { diff_id, blob: Some((descriptor.digest, descriptor.size)) };
        let (store, image_bytes) = (self.store.clone(), image_bytes.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let chunks = std::iter::from_fn(|| receiver.blocking_recv().map(Ok));
            store.write_layer(expected, &image_bytes, chunks)
        });
        let fetched = self
            .client
            .blob(&descriptor.digest, descriptor.size, |bytes| {
                let sender = &sender;
                async move {
                    report.add(bytes.len() as u64);
                    sender.send(bytes).await.is_ok()
                }
            })
            .await;
        drop(sender);
        let written = match writing.await {
            Ok(written) => written,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(e) => Err(LayerError::Decompress(e.to_string())),
        };
        match fetched {
            Ok(()) => Ok(written),
            Err(error) => Err(failed(self.reference, error)),
        }
    }

    fn verify(&self, what: &'static str, expected: &Digest, bytes: &[u8]) -> Result<(), PullError> {
        let found = Digest::of(bytes);
        if found == *expected {
            return Ok(());
        }
        Err(PullError::WrongDigest { reference: self.reference.to_string(), what, expected: *expected, found })
    }

    fn bad_config(&self, source: ConfigError) -> PullError {
        PullError::Config { reference: self.reference.to_string(), source }
    }
}

/// The one image of an index that has no other, but maybe a builder's attestation of it: as `docker buildx` pushes what
/// it builds for one platform. There is nothing to choose, and its word is worth no more than a configuration's.
fn only_image(entries: &[IndexEntry]) -> Option<&IndexEntry> {
    let mut images = entries.iter().filter(|entry| entry.platform.as_ref().is_none_or(|p| p.os == "linux"));
    images.next().filter(|_| images.next().is_none())
}

/// What an index offers to nodes: Linux, and not a builder's attestations, whose platform is `unknown/unknown`.
fn offered(entries: &[IndexEntry]) -> Vec<Platform> {
    entries.iter().filter_map(|entry| entry.platform.clone()).filter(|platform| platform.os == "linux").collect()
}

fn index_source(entries: &[IndexEntry], chosen: &IndexEntry) -> Source {
    let all_say = entries.iter().all(|entry| entry.platform.is_some());
    let offered = if all_say { offered(entries) } else { Vec::new() };
    Source::Index { offered, chosen: chosen.platform.clone() }
}

/// Sum of what all layers of a pull have received, told now and then.
struct Report<'a> {
    progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    total: u64,
    state: Mutex<(u64, Option<Instant>)>,
}

impl Report<'_> {
    fn add(&self, bytes: u64) {
        let now = Instant::now();
        let done = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // A layer that is fetched once more would count twice.
            state.0 = state.0.saturating_add(bytes).min(self.total);
            if state.0 < self.total && state.1.is_some_and(|last| now - last < REPORT_EVERY) {
                return;
            }
            state.1 = Some(now);
            state.0
        };
        (self.progress)(PullProgress::Bytes { done, total: self.total });
    }
}

fn failed(reference: &Reference, error: FetchError) -> PullError {
    let registry = reference.registry().to_owned();
    let reference = reference.to_string();
    match error {
        FetchError::Transient { cause, .. } => PullError::Unreachable { reference, registry, attempts: 1, cause },
        FetchError::GivenUp { attempts, cause } => PullError::Unreachable { reference, registry, attempts, cause },
        FetchError::NotFound => PullError::NotFound { reference },
        FetchError::Denied(detail) => PullError::Denied { reference, detail },
        FetchError::Protocol(cause) => PullError::Protocol { reference, cause },
        FetchError::Credentials(e) => PullError::Credentials { reference, path: e.path, cause: e.cause },
    }
}
