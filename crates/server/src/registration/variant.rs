//! What is known of an image: one variant for each group of machines that takes the same one.

use std::collections::BTreeMap;

use boot::Architecture;
use image::store::Source;

use super::wanted::{ImageKey, Wanted, architecture_of};
use crate::registry::ImageRow;

/// An image under its full name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageEntry {
    /// What machines want of it, by what they run.
    pub variants: BTreeMap<Wanted, Variant>,
}

/// The image that some machines are given under a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variant {
    /// What it is; `None` until it has arrived.
    pub content: Option<Content>,
    /// What is being done with it.
    pub job: Job,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Digest of its configuration.
    pub digest: String,
    /// What the name stood for when it came.
    pub source: Source,
    /// When it came (seconds since 1970).
    pub created: i64,
    /// Models it declares; empty while not known.
    pub models: Vec<String>,
    /// How it can be served; `None` until it is prepared.
    pub ready: Option<Ready>,
}

/// How an image can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Id of its view.
    pub image_id: String,
    /// What it is really built for.
    pub architecture: Architecture,
}

/// What is being done with an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Job {
    /// Nothing.
    #[default]
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
    /// What the name stood for.
    pub source: Source,
}

/// An image that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Id of its view.
    pub image_id: String,
    /// Models it declares, at least one.
    pub models: Vec<String>,
    /// What it is really built for.
    pub architecture: Architecture,
}

impl ImageEntry {
    /// Is anything being done with it?
    pub fn is_busy(&self) -> bool {
        self.variants.values().any(Variant::is_busy)
    }

    /// The variants for an architecture: what was asked for it alone, and what it was that came.
    pub fn variants_for(&self, architecture: Architecture) -> impl Iterator<Item = (&Wanted, &Variant)> {
        let is_for = move |wanted: &Wanted, variant: &Variant| {
            let of_content = variant.content.as_ref().and_then(Content::architecture);
            *wanted == Wanted::exactly(architecture) || of_content == Some(architecture)
        };
        self.variants.iter().filter(move |(wanted, variant)| is_for(wanted, variant))
    }

    /// What these machines have of it, or can have of what others have: the same image, and newer before older.
    pub fn content_for(&self, wanted: &Wanted) -> Option<&Content> {
        let own = self.variants.get(wanted).and_then(|variant| variant.content.as_ref());
        own.or_else(|| {
            // What is about to be replaced, or must come again, is not worth to be taken over.
            let settled = self.variants.values().filter(|variant| !variant.is_pulling() && !variant.is_to_come_again());
            let suitable =
                settled.filter_map(|variant| variant.content.as_ref()).filter(|content| content.suits(wanted));
            suitable.max_by_key(|content| content.created)
        })
    }

    /// What is offered under this name, if it is known that nothing of it is for these machines.
    pub(super) fn offered_to_others(&self, wanted: &Wanted) -> Option<String> {
        let newest = self.variants.values().filter_map(|variant| variant.content.as_ref()).max_by_key(|c| c.created)?;
        let Source::Index { offered, .. } = &newest.source else { return None };
        // What we do not know may run on them.
        let known = !offered.is_empty() && offered.iter().all(|platform| architecture_of(platform).is_some());
        let none = known && wanted.best_of(offered).is_none();
        none.then(|| offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

impl Content {
    /// What it is built for, or was offered as, as far as is known.
    fn architecture(&self) -> Option<Architecture> {
        let offered_as = || match &self.source {
            Source::Index { chosen: Some(platform), .. } => architecture_of(platform),
            _ => None,
        };
        self.ready.as_ref().map(|ready| ready.architecture).or_else(offered_as)
    }

    pub(super) fn new(pulled: Pulled, now_ms: i64) -> Self {
        let Pulled { digest, models, source } = pulled;
        Self { digest, source, created: now_ms / 1000, models, ready: None }
    }

    /// Is it what these machines would be given?
    fn suits(&self, wanted: &Wanted) -> bool {
        match &self.source {
            Source::Plain => true,
            Source::Index { offered, chosen } => chosen.is_some() && wanted.best_of(offered) == chosen.as_ref(),
        }
    }

    pub(super) fn row(&self, key: &ImageKey) -> ImageRow {
        ImageRow { key: key.clone(), digest: self.digest.clone(), created: self.created, source: self.source.clone() }
    }
}

impl Variant {
    pub(super) fn kept(row: &ImageRow) -> Self {
        let content = Content {
            digest: row.digest.clone(),
            source: row.source.clone(),
            created: row.created,
            models: Vec::new(),
            ready: None,
        };
        Self { content: Some(content), job: Job::Idle }
    }

    /// Digest of the image, once it has arrived.
    pub fn digest(&self) -> Option<&str> {
        self.content.as_ref().map(|content| content.digest.as_str())
    }

    /// How it can be served, once it can.
    pub fn ready(&self) -> Option<&Ready> {
        self.content.as_ref()?.ready.as_ref()
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.job, Job::Pulling { .. } | Job::Preparing { .. })
    }

    pub(super) fn is_pulling(&self) -> bool {
        matches!(self.job, Job::Pulling { .. })
    }

    /// One that was refused for what it is must come again: it may have been replaced. And where a newer one was on its
    /// way, that is still to come.
    pub(super) fn is_to_come_again(&self) -> bool {
        matches!(&self.job, Job::Failed { failure: Failure { step: "check" | "pull", .. }, .. })
    }

    pub(super) fn attempts(&self) -> u32 {
        match self.job {
            Job::Idle => 0,
            Job::Pulling { attempts, .. } | Job::Preparing { attempts } | Job::Failed { attempts, .. } => attempts,
        }
    }
}
