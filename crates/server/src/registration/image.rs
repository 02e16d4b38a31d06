//! The images that nodes want: getting each of them once, however many nodes wait.

use std::collections::{BTreeMap, BTreeSet};

use api::{Problem, ProblemKind};
use boot::Architecture;

use super::variant::{Content, Job, Ready, Variant};
use super::wanted::{ImageKey, Wanted, architecture_of};
use super::{Action, Failure, Prepared, Pulled, Registrar};

/// First pause before a failed step is tried again, doubled each time, in milliseconds.
const FIRST_PAUSE_MS: i64 = 5_000;
/// Longest pause: somebody sits before a node that waits for it.
const LONGEST_PAUSE_MS: i64 = 60_000;
/// What only a change elsewhere can repair is looked at again when a node asks, but not more often.
const ASK_AGAIN_MS: i64 = 60_000;
/// What failed, has nothing, and is wanted by no node is forgotten after this time: whoever asked has been told.
const FORGOTTEN_AFTER_MS: i64 = 60_000;

impl Registrar {
    /// When [`super::Input::Tick`] is due next (milliseconds since 1970).
    pub fn next_retry_ms(&self) -> Option<i64> {
        self.next_retry_ms
    }

    /// What becomes of everything that has failed and does not stay as it is. Names come from the network (a node says
    /// its model): what no node wants any more is not asked for for ever, nor kept.
    fn failed_ones(&self) -> Vec<(ImageKey, Next)> {
        let failed = |variant: &Variant| matches!(variant.job, Job::Failed { .. });
        let failed = self.images.iter().filter(|(_, entry)| entry.variants.values().any(failed));
        let failed: BTreeMap<_, _> = failed.map(|(name, entry)| (name.as_str(), entry)).collect();
        // The usual case, at each event.
        if failed.is_empty() {
            return Vec::new();
        }
        // Not a key for each node: many thousands may wait for the same image.
        let nodes = self.devices.values().filter_map(|node| node.row.image.as_deref().zip(node.row.model.as_deref()));
        let models: BTreeSet<_> = nodes.filter(|(name, _)| failed.contains_key(name)).collect();
        let key = |(name, model): (&str, &str)| ImageKey { name: name.to_owned(), wanted: Wanted::by_model(model) };
        let wanted: BTreeSet<_> = models.into_iter().map(key).collect();
        let variants = failed.iter().flat_map(|(name, entry)| entry.variants.iter().map(move |of| (*name, of)));
        let next = variants.filter_map(|(name, (for_these, variant))| {
            let Job::Failed { at_ms, retry_at_ms, .. } = variant.job else { return None };
            let key = ImageKey { name: name.to_owned(), wanted: for_these.clone() };
            let next = match retry_at_ms {
                _ if variant.content.is_none() && !wanted.contains(&key) => Next::Forget(at_ms + FORGOTTEN_AFTER_MS),
                Some(at_ms) => Next::Retry(at_ms),
                None => return None,
            };
            Some((key, next))
        });
        next.collect()
    }

    /// Has the image made ready, unless it is, or is being, or has just failed.
    pub(super) fn ensure(&mut self, key: &ImageKey, now_ms: i64, actions: &mut Vec<Action>) {
        self.add(key, actions);
        let due = self.variant(key).is_some_and(|variant| match variant.job {
            Job::Idle => variant.ready().is_none(),
            Job::Pulling { .. } | Job::Preparing { .. } => false,
            Job::Failed { retry_at_ms: None, at_ms, .. } => now_ms - at_ms >= ASK_AGAIN_MS,
            Job::Failed { .. } => false,
        });
        if due {
            self.begin(key, actions);
        }
    }

    /// As [`ensure`](Self::ensure), because a person asks: what has failed is tried at once.
    pub(super) fn ensure_now(&mut self, key: &ImageKey, now_ms: i64, actions: &mut Vec<Action>) {
        match self.variant(key).map(|variant| &variant.job) {
            Some(Job::Failed { .. }) => self.begin(key, actions),
            _ => self.ensure(key, now_ms, actions),
        }
    }

    /// Adds what is wanted under this name. What is there for other machines, and is the same for these, need not
    /// come again.
    fn add(&mut self, key: &ImageKey, actions: &mut Vec<Action>) {
        let entry = self.images.entry(key.name.clone()).or_default();
        if entry.variants.contains_key(&key.wanted) {
            return;
        }
        let content = entry.content_for(&key.wanted).cloned();
        actions.extend(content.iter().map(|content| Action::SaveImage(content.row(key))));
        entry.variants.insert(key.wanted.clone(), Variant { content, job: Job::Idle });
    }

    /// Pulls the image, or prepares it if it is there and it was not the pull of a newer one that failed.
    fn begin(&mut self, key: &ImageKey, actions: &mut Vec<Action>) {
        let Some(variant) = self.variant(key) else { return };
        match variant.digest().filter(|_| !variant.is_to_come_again()) {
            Some(digest) => {
                let digest = digest.to_owned();
                self.begin_preparing(key, &digest, variant.attempts(), actions);
            }
            None => self.begin_pulling(key, variant.attempts(), actions),
        }
    }

    fn begin_pulling(&mut self, key: &ImageKey, attempts: u32, actions: &mut Vec<Action>) {
        let Some(variant) = self.variant_mut(key) else { return };
        variant.job = Job::Pulling { done: 0, total: 0, attempts, trouble: None };
        actions.push(Action::Pull(key.clone()));
        self.note(key, "image-pull", format!("{} is on its way from its registry", key.name), true, actions);
    }

    /// The same image is prepared once, for all machines that are to get it.
    fn begin_preparing(&mut self, key: &ImageKey, digest: &str, attempts: u32, actions: &mut Vec<Action>) {
        let Some(entry) = self.images.get_mut(&key.name) else { return };
        let is_on_its_way =
            |variant: &Variant| variant.digest() == Some(digest) && matches!(variant.job, Job::Preparing { .. });
        if !entry.variants.values().any(is_on_its_way) {
            actions.push(Action::Prepare { name: key.name.clone(), digest: digest.to_owned() });
        }
        if let Some(variant) = entry.variants.get_mut(&key.wanted) {
            variant.job = Job::Preparing { attempts };
        }
    }

    /// Begins again what is due. The clock may have been set back: nothing waits longer than the longest pause.
    pub(super) fn retry(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        self.next_retry_ms = None;
        for (key, next) in self.failed_ones() {
            let at_ms = next.at_ms();
            if at_ms > now_ms && at_ms <= now_ms + LONGEST_PAUSE_MS {
                self.next_retry_ms = Some(self.next_retry_ms.map_or(at_ms, |before| before.min(at_ms)));
                continue;
            }
            match next {
                Next::Retry(_) => self.begin(&key, actions),
                Next::Forget(_) => self.forget_variant(&key),
            }
        }
    }

    fn forget_variant(&mut self, key: &ImageKey) {
        if let Some(entry) = self.images.get_mut(&key.name) {
            entry.variants.remove(&key.wanted);
            if entry.variants.is_empty() {
                self.images.remove(&key.name);
            }
        }
    }

    /// Gets anew the variant for an architecture, or all that is there under this name, and what is waited for; if that
    /// is nothing, what suits most.
    pub(super) fn clone_image(&mut self, name: &str, architecture: Option<Architecture>, actions: &mut Vec<Action>) {
        let key = |wanted| ImageKey { name: name.to_owned(), wanted };
        let waited_for: Vec<_> = self.keys_of_nodes().filter(|(of, _)| of.name == name).map(|(of, _)| of).collect();
        let models: Vec<_> = self.devices.values().filter_map(|device| device.row.model.as_deref()).collect();
        let entry = self.images.entry(name.to_owned()).or_default();
        // What failed for machines that do not want it any more would fail for ever.
        entry.variants.retain(|wanted, variant| {
            variant.content.is_some() || variant.is_busy() || waited_for.contains(&key(wanted.clone()))
        });
        let mut wanted: Vec<_> = match architecture {
            Some(architecture) => entry.variants_for(architecture).map(|(wanted, _)| wanted.clone()).collect(),
            None => entry.variants.keys().cloned().chain(waited_for.into_iter().map(|key| key.wanted)).collect(),
        };
        if let (Some(architecture), true) = (architecture, wanted.is_empty()) {
            wanted.push(Wanted::exactly(architecture));
        }
        if wanted.is_empty() {
            wanted.push(Wanted::preferably(models.into_iter()));
        }
        for wanted in wanted {
            let key = key(wanted);
            self.add(&key, actions);
            if self.variant(&key).is_some_and(|variant| !variant.is_busy()) {
                self.begin_pulling(&key, 0, actions);
            }
        }
    }

    pub(super) fn progress(&mut self, key: &ImageKey, now: u64, all: u64, actions: &mut Vec<Action>) {
        let job = self.variant_mut(key).map(|variant| &mut variant.job);
        let Some(Job::Pulling { done, total, trouble, .. }) = job else { return };
        let quarter = |done: u64, total: u64| done.saturating_mul(4).checked_div(total).unwrap_or(0);
        let before = if *total == all { quarter(*done, *total) } else { 0 };
        (*done, *total) = (now, all);
        *trouble = None;
        let reached = quarter(now, all);
        if reached > before && reached < 4 {
            let detail = format!("{} % of {all} B have arrived", 25 * reached);
            self.note(key, "image-pull", detail, true, actions);
        }
    }

    pub(super) fn retrying(&mut self, key: &ImageKey, cause: String, actions: &mut Vec<Action>) {
        if let Some(Job::Pulling { trouble, .. }) = self.variant_mut(key).map(|variant| &mut variant.job) {
            *trouble = Some(cause.clone());
            self.note(key, "image-pull", format!("the registry is asked again: {cause}"), false, actions);
        }
    }

    pub(super) fn pulled(
        &mut self,
        key: &ImageKey,
        result: Result<Pulled, Failure>,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        // An archive that came meanwhile has what its sender meant.
        if !self.variant(key).is_some_and(Variant::is_pulling) {
            self.garbage = true;
            return;
        }
        match result {
            Ok(pulled) => self.arrived(key, pulled, now_ms, actions),
            Err(failure) => self.failed(key, failure, now_ms, actions),
        }
    }

    /// The archive's images are all that the name stands for now.
    pub(super) fn imported(&mut self, name: &str, images: Vec<Pulled>, now_ms: i64, actions: &mut Vec<Action>) {
        let key = |wanted| ImageKey { name: name.to_owned(), wanted };
        let before = self.images.remove(name).unwrap_or_default();
        self.garbage |= !before.variants.is_empty();
        let ready = |digest: &str| {
            let mut same = before.variants.values().filter(|variant| variant.digest() == Some(digest));
            same.find_map(|variant| variant.ready().cloned())
        };
        actions.extend(before.variants.keys().map(|wanted| Action::ForgetImage(key(wanted.clone()))));
        for pulled in images {
            let wanted = match &pulled.source {
                image::store::Source::Index { chosen: Some(platform), .. } => architecture_of(platform),
                _ => None,
            };
            let key = key(wanted.map_or_else(Wanted::anything, Wanted::exactly));
            // Two that the same machines run: the archive's first one counts, as with a registry's index.
            if self.variant(&key).is_some() {
                continue;
            }
            let content = Content { ready: ready(&pulled.digest), ..Content::new(pulled.clone(), now_ms) };
            let variant = Variant { content: Some(content), job: Job::Idle };
            self.images.entry(name.to_owned()).or_default().variants.insert(key.wanted.clone(), variant);
            self.arrived(&key, pulled, now_ms, actions);
        }
        let waiting: Vec<_> = self.keys_of_nodes().filter(|(key, _)| key.name == name).map(|(key, _)| key).collect();
        for key in waiting {
            self.ensure(&key, now_ms, actions);
            self.deliver(&key, actions);
        }
    }

    fn arrived(&mut self, key: &ImageKey, pulled: Pulled, now_ms: i64, actions: &mut Vec<Action>) {
        let Some(variant) = self.variant_mut(key) else { return };
        let digest = pulled.digest.clone();
        let before = variant.content.take();
        // What nodes are served stays; new content gets an id of its own.
        let (same, replaced): (Vec<_>, Vec<_>) = before.into_iter().partition(|old| old.digest == digest);
        let ready = same.into_iter().find_map(|same| same.ready);
        let content = Content { ready, ..Content::new(pulled, now_ms) };
        actions.push(Action::SaveImage(content.row(key)));
        variant.content = Some(content);
        variant.job = Job::Idle;
        self.garbage |= !replaced.is_empty();
        self.begin_preparing(key, &digest, 0, actions);
        self.note(key, "image-pulled", format!("{} has arrived, {digest}", key.name), true, actions);
    }

    pub(super) fn prepared(
        &mut self,
        name: &str,
        digest: &str,
        result: Result<Prepared, Failure>,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        let of = |(key, variant): &(ImageKey, &Variant)| key.name == name && variant.digest() == Some(digest);
        // None, if it was replaced meanwhile, and that is being prepared, too.
        let keys: Vec<_> = self.variants().filter(of).map(|(key, _)| key).collect();
        let prepared = match result {
            Ok(prepared) => prepared,
            Err(failure) => {
                for key in keys {
                    if self.variant(&key).is_some_and(|variant| matches!(variant.job, Job::Preparing { .. })) {
                        self.failed(&key, failure.clone(), now_ms, actions);
                    }
                }
                return;
            }
        };
        if !keys.is_empty() {
            self.reopened(&prepared.image_id, actions);
        }
        for key in keys {
            let Some(variant) = self.variant_mut(&key) else { continue };
            let Prepared { image_id, models, architecture } = prepared.clone();
            if let Some(content) = &mut variant.content {
                content.models = models;
                content.ready = Some(Ready { image_id, architecture });
            }
            if !variant.is_pulling() {
                variant.job = Job::Idle;
            }
            self.deliver(&key, actions);
        }
    }

    fn failed(&mut self, key: &ImageKey, failure: Failure, now_ms: i64, actions: &mut Vec<Action>) {
        let Some(variant) = self.variant_mut(key) else { return };
        let attempts = variant.attempts() + 1;
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST_PAUSE_MS);
        let retry_at_ms = failure.transient.then_some(now_ms + pause);
        let again = match retry_at_ms {
            Some(_) => format!("; it is tried again in {} s", pause / 1000),
            None => String::new(),
        };
        let (step, detail) = (failure.step, format!("{}{again}", failure.cause));
        variant.job = Job::Failed { failure, attempts, at_ms: now_ms, retry_at_ms };
        self.note(key, step, detail, false, actions);
    }

    pub(super) fn remove(&mut self, name: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let name = self.find_image(name)?;
        let users: Vec<_> = self
            .keys_of_nodes()
            .filter(|(key, _)| key.name == name)
            .filter_map(|(_, mac)| self.devices.get(&mac))
            .map(|device| device.row.name.as_str())
            .collect();
        if !users.is_empty() {
            return Err(Problem {
                kind: ProblemKind::InUse,
                message: format!("image {name} is in use: {} boot{} it", users.join(", "), plural(users.len())),
                hint: Some("give them another image first: `walt node boot NODE IMAGE`".into()),
            });
        }
        let Some(entry) = self.images.get(&name) else { return Ok(()) };
        if entry.is_busy() {
            return Err(Problem {
                kind: ProblemKind::InUse,
                message: format!("image {name} is just being pulled or prepared"),
                hint: Some("try again when that has ended; `walt image show` tells".into()),
            });
        }
        let keys = entry.variants.keys().map(|wanted| ImageKey { name: name.clone(), wanted: wanted.clone() });
        actions.extend(keys.map(Action::ForgetImage));
        self.images.remove(&name);
        self.garbage = true;
        Ok(())
    }

    pub(super) fn variants(&self) -> impl Iterator<Item = (ImageKey, &Variant)> {
        self.images.iter().flat_map(|(name, entry)| {
            let key = |wanted: &Wanted| ImageKey { name: name.clone(), wanted: wanted.clone() };
            entry.variants.iter().map(move |(wanted, variant)| (key(wanted), variant))
        })
    }

    /// What these machines have of the image.
    pub fn variant(&self, key: &ImageKey) -> Option<&Variant> {
        self.images.get(&key.name)?.variants.get(&key.wanted)
    }

    fn variant_mut(&mut self, key: &ImageKey) -> Option<&mut Variant> {
        self.images.get_mut(&key.name)?.variants.get_mut(&key.wanted)
    }
}

/// What becomes of something that has failed.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// It is tried again then.
    Retry(i64),
    /// It is forgotten then.
    Forget(i64),
}

impl Next {
    fn at_ms(self) -> i64 {
        match self {
            Self::Retry(at_ms) | Self::Forget(at_ms) => at_ms,
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "s" } else { "" }
}
