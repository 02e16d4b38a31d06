//! The images that nodes want: getting each of them once, however many nodes wait.

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::{Action, Registrar};
use crate::registry::ImageRow;

/// First pause before a failed step is tried again, doubled each time, in milliseconds.
const FIRST_PAUSE_MS: i64 = 5_000;
/// Longest pause: somebody sits before a node that waits for it.
const LONGEST_PAUSE_MS: i64 = 60_000;
/// What only a change elsewhere can repair is looked at again when a node asks, but not more often.
const ASK_AGAIN_MS: i64 = 60_000;

/// An image under its full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// Digest of its configuration; `None` until it has arrived.
    pub digest: Option<String>,
    /// When it came (seconds since 1970).
    pub created: i64,
    /// Models it declares; empty while not known.
    pub models: Vec<String>,
    /// Id under which it can be served; `None` until it is prepared.
    pub image_id: Option<String>,
    /// What is being done with it.
    pub job: Job,
}

/// What is being done with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Nothing.
    Idle,
    /// It is arriving.
    Pulling {
        /// Bytes so far.
        done: u64,
        /// All of them; 0 while this is not known.
        total: u64,
        /// How often it was tried before.
        attempts: u32,
        /// Why the registry is being asked again, if it is.
        trouble: Option<String>,
    },
    /// It is being prepared.
    Preparing {
        /// How often it was tried before.
        attempts: u32,
    },
    /// A step failed.
    Failed {
        /// The step, and why it failed.
        failure: Failure,
        /// How often it was tried.
        attempts: u32,
        /// When it failed (milliseconds since 1970).
        at_ms: i64,
        /// When it is tried again; `None` if only a change elsewhere can help.
        retry_at_ms: Option<i64>,
    },
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `pull`, `check`, `prepare`.
    pub step: &'static str,
    /// What failed, on what, and why.
    pub cause: String,
    /// Whether trying again may help.
    pub transient: bool,
}

/// An image that has arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Digest of its configuration.
    pub digest: String,
    /// Models it declares, at least one.
    pub models: Vec<String>,
}

impl ImageEntry {
    pub(super) fn kept(row: &ImageRow) -> Self {
        Self { digest: Some(row.digest.clone()), created: row.created, ..Self::wanted() }
    }

    fn wanted() -> Self {
        Self { digest: None, created: 0, models: Vec::new(), image_id: None, job: Job::Idle }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.job, Job::Pulling { .. } | Job::Preparing { .. })
    }

    fn attempts(&self) -> u32 {
        match self.job {
            Job::Idle => 0,
            Job::Pulling { attempts, .. } | Job::Preparing { attempts } | Job::Failed { attempts, .. } => attempts,
        }
    }
}

impl Registrar {
    /// When [`super::Input::Tick`] is due next (milliseconds since 1970).
    pub fn next_retry_ms(&self) -> Option<i64> {
        self.images.values().filter_map(|entry| retry_at(&entry.job)).min()
    }

    /// Has the image made ready, unless it is, or is being, or has just failed.
    pub(super) fn ensure(&mut self, name: &str, now_ms: i64, actions: &mut Vec<Action>) {
        let entry = self.images.entry(name.to_owned()).or_insert_with(ImageEntry::wanted);
        let due = match &entry.job {
            Job::Idle => entry.image_id.is_none(),
            Job::Pulling { .. } | Job::Preparing { .. } => false,
            Job::Failed { retry_at_ms: None, at_ms, .. } => now_ms - at_ms >= ASK_AGAIN_MS,
            Job::Failed { .. } => false,
        };
        if due {
            self.begin(name, actions);
        }
    }

    /// As [`ensure`](Self::ensure), because a person asks: what has failed is tried at once.
    pub(super) fn ensure_now(&mut self, name: &str, now_ms: i64, actions: &mut Vec<Action>) {
        match self.images.get(name).map(|entry| &entry.job) {
            Some(Job::Failed { .. }) => self.begin(name, actions),
            _ => self.ensure(name, now_ms, actions),
        }
    }

    /// Pulls the image, or prepares it if it is there.
    fn begin(&mut self, name: &str, actions: &mut Vec<Action>) {
        let model = self.model_waiting_for(name);
        let Some(entry) = self.images.get_mut(name) else { return };
        let attempts = entry.attempts();
        // One that was refused for what it is must come again: it may have been replaced.
        let refused = matches!(&entry.job, Job::Failed { failure: Failure { step: "check", .. }, .. });
        match &entry.digest {
            Some(digest) if !refused => {
                actions.push(Action::Prepare { name: name.to_owned(), digest: digest.clone() });
                entry.job = Job::Preparing { attempts };
            }
            _ => {
                actions.push(Action::Pull { name: name.to_owned(), model });
                entry.job = Job::Pulling { done: 0, total: 0, attempts, trouble: None };
                self.note(name, "image-pull", format!("{name} is on its way from its registry"), true, actions);
            }
        }
    }

    /// Begins again what is due. The clock may have been set back: nothing waits longer than the longest pause.
    pub(super) fn retry(&mut self, now_ms: i64, actions: &mut Vec<Action>) {
        let due = |entry: &super::ImageEntry| {
            retry_at(&entry.job).is_some_and(|at| at <= now_ms || at > now_ms + LONGEST_PAUSE_MS)
        };
        let names: Vec<_> = self.images.iter().filter(|(_, e)| due(e)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.begin(&name, actions);
        }
    }

    pub(super) fn clone_image(&mut self, name: &str, _now_ms: i64, actions: &mut Vec<Action>) {
        let model = self.model_waiting_for(name);
        let entry = self.images.entry(name.to_owned()).or_insert_with(ImageEntry::wanted);
        if !entry.is_busy() {
            entry.job = Job::Pulling { done: 0, total: 0, attempts: 0, trouble: None };
            actions.push(Action::Pull { name: name.to_owned(), model });
        }
    }

    pub(super) fn progress(&mut self, name: &str, now: u64, all: u64, actions: &mut Vec<Action>) {
        let job = self.images.get_mut(name).map(|entry| &mut entry.job);
        let Some(Job::Pulling { done, total, trouble, .. }) = job else { return };
        let quarter = |done: u64, total: u64| done.saturating_mul(4).checked_div(total).unwrap_or(0);
        let before = if *total == all { quarter(*done, *total) } else { 0 };
        (*done, *total) = (now, all);
        *trouble = None;
        let reached = quarter(now, all);
        if reached > before && reached < 4 {
            let detail = format!("{} % of {all} B have arrived", 25 * reached);
            self.note(name, "image-pull", detail, true, actions);
        }
    }

    pub(super) fn retrying(&mut self, name: &str, cause: String, actions: &mut Vec<Action>) {
        if let Some(Job::Pulling { trouble, .. }) = self.images.get_mut(name).map(|entry| &mut entry.job) {
            *trouble = Some(cause.clone());
            self.note(name, "image-pull", format!("the registry is asked again: {cause}"), false, actions);
        }
    }

    pub(super) fn pulled(
        &mut self,
        name: &str,
        result: Result<Pulled, Failure>,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        let pulled = match result {
            Ok(pulled) => pulled,
            Err(failure) => return self.failed(name, failure, now_ms, actions),
        };
        let entry = self.images.entry(name.to_owned()).or_insert_with(ImageEntry::wanted);
        let replaced = entry.digest.as_ref().is_some_and(|old| *old != pulled.digest);
        if replaced {
            // What nodes are served stays; the new content gets an id of its own.
            entry.image_id = None;
        }
        let attempts = if matches!(entry.job, Job::Pulling { .. }) { 0 } else { entry.attempts() };
        entry.models = pulled.models;
        entry.digest = Some(pulled.digest.clone());
        entry.created = now_ms / 1000;
        entry.job = Job::Preparing { attempts };
        self.garbage |= replaced;
        let row = ImageRow { name: name.to_owned(), digest: pulled.digest.clone(), created: now_ms / 1000 };
        actions.push(Action::SaveImage(row));
        actions.push(Action::Prepare { name: name.to_owned(), digest: pulled.digest.clone() });
        self.note(name, "image-pulled", format!("{name} has arrived, {}", pulled.digest), true, actions);
    }

    pub(super) fn prepared(
        &mut self,
        name: &str,
        digest: &str,
        result: Result<(String, Vec<String>), Failure>,
        now_ms: i64,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.images.get_mut(name) else { return };
        if entry.digest.as_deref() != Some(digest) {
            // It was replaced meanwhile, and that is being prepared, too.
            return;
        }
        match result {
            Ok((id, models)) => {
                entry.models = models;
                entry.job = Job::Idle;
                entry.image_id = Some(id.clone());
                self.reopened(&id, actions);
                self.deliver(name, actions);
            }
            Err(failure) => self.failed(name, failure, now_ms, actions),
        }
    }

    fn failed(&mut self, name: &str, failure: Failure, now_ms: i64, actions: &mut Vec<Action>) {
        let Some(entry) = self.images.get_mut(name) else { return };
        let attempts = entry.attempts() + 1;
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST_PAUSE_MS);
        let retry_at_ms = failure.transient.then_some(now_ms + pause);
        let again = match retry_at_ms {
            Some(_) => format!("; it is tried again in {} s", pause / 1000),
            None => String::new(),
        };
        let (step, detail) = (failure.step, format!("{}{again}", failure.cause));
        entry.job = Job::Failed { failure, attempts, at_ms: now_ms, retry_at_ms };
        self.note(name, step, detail, false, actions);
    }

    /// The view of this id is open, maybe again: nodes that have it are served from it.
    fn reopened(&self, id: &str, actions: &mut Vec<Action>) {
        for device in self.devices.values() {
            let row = &device.row;
            if row.served.as_deref() == Some(id) || row.held.iter().any(|held| held == id) {
                actions.push(Action::Export(row.mac));
            }
        }
    }

    /// Serves the image to all who wait for it.
    fn deliver(&mut self, name: &str, actions: &mut Vec<Action>) {
        for mac in self.waiting_for(name) {
            self.deliver_to(mac, actions);
        }
    }

    /// Serves a node the image it is to boot, if that is ready and made for it; true if it was not served it before.
    pub(super) fn deliver_to(&mut self, mac: MacAddr, actions: &mut Vec<Action>) -> bool {
        let Some(device) = self.devices.get_mut(&mac) else { return false };
        let (Some(name), Some(model)) = (device.row.image.clone(), device.row.model.clone()) else { return false };
        let Some(entry) = self.images.get(&name) else { return false };
        let Some(id) = entry.image_id.clone() else { return false };
        if !entry.models.contains(&model) {
            let cause = format!("image {name} is not made for a {model}, but for {}", entry.models.join(", "));
            if device.problem.as_ref().is_none_or(|(_, old)| *old != cause) {
                actions.push(Action::Note { mac, step: "check", detail: cause.clone(), ok: false });
            }
            device.problem = Some(("check", cause));
            return false;
        }
        if matches!(device.problem, Some(("check", _))) {
            device.problem = None;
        }
        if device.row.served.as_ref() == Some(&id) {
            return false;
        }
        let old = device.row.served.replace(id);
        self.garbage |= old.is_some();
        actions.extend([Action::Save(mac), Action::Export(mac), Action::Link(mac)]);
        self.tell_served(mac, &name, actions);
        true
    }

    /// Tells the node's timeline that what it is to boot is served, if it is.
    pub(super) fn tell_served(&self, mac: MacAddr, name: &str, actions: &mut Vec<Action>) {
        let served = self.devices.get(&mac).and_then(|device| device.row.served.as_ref());
        let wanted = self.images.get(name).and_then(|entry| entry.image_id.as_ref());
        if let Some(id) = served.filter(|id| Some(*id) == wanted) {
            let detail = format!("{name} is served, image {}", id.get(..12).unwrap_or(id));
            actions.push(Action::Note { mac, step: "image-ready", detail, ok: true });
        }
    }

    pub(super) fn remove(&mut self, name: &str, actions: &mut Vec<Action>) -> Result<(), Problem> {
        let name = self.find_image(name)?;
        let users: Vec<_> = self
            .devices
            .values()
            .filter(|device| device.row.image.as_ref() == Some(&name))
            .map(|device| device.row.name.as_str())
            .collect();
        if !users.is_empty() {
            return Err(Problem {
                kind: ProblemKind::InUse,
                message: format!("image {name} is in use: {} boot{} it", users.join(", "), plural(users.len())),
                hint: Some("give them another image first: `walt node boot NODE IMAGE`".into()),
            });
        }
        if self.images.get(&name).is_some_and(ImageEntry::is_busy) {
            return Err(Problem {
                kind: ProblemKind::InUse,
                message: format!("image {name} is just being pulled or prepared"),
                hint: Some("try again when that has ended; `walt image show` tells".into()),
            });
        }
        self.images.remove(&name);
        self.garbage = true;
        actions.push(Action::ForgetImage(name));
        Ok(())
    }

    fn waiting_for(&self, name: &str) -> Vec<MacAddr> {
        let wants = |device: &&super::Device| device.row.image.as_deref() == Some(name);
        self.devices.values().filter(wants).map(|device| device.row.mac).collect()
    }

    fn model_waiting_for(&self, name: &str) -> Option<String> {
        self.waiting_for(name).into_iter().find_map(|mac| self.devices.get(&mac)?.row.model.clone())
    }

    fn note(&self, name: &str, step: &'static str, detail: String, ok: bool, actions: &mut Vec<Action>) {
        for mac in self.waiting_for(name) {
            actions.push(Action::Note { mac, step, detail: detail.clone(), ok });
        }
    }
}

fn retry_at(job: &Job) -> Option<i64> {
    match job {
        Job::Failed { retry_at_ms, .. } => *retry_at_ms,
        _ => None,
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "s" } else { "" }
}
