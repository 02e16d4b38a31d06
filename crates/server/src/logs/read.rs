//! Log lines for a reader: of the past, and of the present for as long as it listens.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::LogLine;
use regex::Regex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Range;
use crate::registry::{Issuer, KeptLine, LogReader, RegistryError};
use crate::site::Site;

/// Lines read from the disk at once.
const BATCH: usize = 1000;
/// Batches that wait for a reader that is slow.
const QUEUE: usize = 4;
/// Longest wait for lines that have come and are not on disk yet.
const SETTLING: Duration = Duration::from_secs(2);

/// Time that lines have to leave the server before an error ends the answer that they are in: a connection that is
/// given up drops what it has not sent.
const BEFORE_FAILURE: Duration = Duration::from_millis(500);

/// Where lines go.
type Lines = mpsc::Sender<Result<Vec<LogLine>, ReadError>>;

/// Which lines a reader wants.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Who wrote them; `None`: anybody.
    pub issuers: Option<BTreeSet<Issuer>>,
    /// A match in the name of their stream.
    pub stream: Option<Regex>,
    /// A match in their text.
    pub line: Option<Regex>,
}

/// What a reader wants to see.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Lines of the past.
    pub history: Option<Range>,
    /// Then lines of the present, until the reader goes.
    pub realtime: bool,
    /// Which of them.
    pub filter: Filter,
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The registry can not be opened.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry can not be read.
    #[error("can not read the logs: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A reading thread panicked.
    #[error("reading the logs was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

impl Filter {
    fn takes(&self, line: &KeptLine) -> bool {
        let row = &line.row;
        self.issuers.as_ref().is_none_or(|issuers| issuers.contains(&row.issuer))
            && self.stream.as_ref().is_none_or(|stream| stream.is_match(&row.stream))
            && self.line.as_ref().is_none_or(|text| text.is_match(&row.line))
    }
}

/// A reader who has said what it wants.
#[derive(Debug)]
pub struct Reading {
    site: Arc<Site>,
    wanted: Wanted,
    db: Option<LogReader>,
    /// What comes later than this is the present.
    last: i64,
}

impl Reading {
    /// Begins: what is logged from now on is the present for this reader.
    ///
    /// # Errors
    /// The registry can not be opened.
    pub async fn begin(site: Arc<Site>, wanted: Wanted) -> Result<Self, ReadError> {
        let _ = tokio::time::timeout(SETTLING, site.registry().settle_logs()).await;
        let last = site.registry().written().borrow().last_id;
        let registry = site.registry().clone();
        let db = Some(tokio::task::spawn_blocking(move || registry.log_reader()).await??);
        Ok(Self { site, wanted, db, last })
    }

    /// What is wanted, some lines at a time, until there is no more. An error is the last item: who passes the lines on
    /// must not let what came so far look like all of it.
    pub fn lines(self) -> ReceiverStream<Result<Vec<LogLine>, ReadError>> {
        let (lines, stream) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            if let Err(error) = self.send(&lines).await {
                tracing::error!(%error, "reading logs failed");
                tokio::time::sleep(BEFORE_FAILURE).await;
                // Nobody listens any more: nobody is misled.
                let _ = lines.send(Err(error)).await;
            }
        });
        ReceiverStream::new(stream)
    }

    async fn send(mut self, lines: &Lines) -> Result<(), ReadError> {
        if let Some(range) = self.wanted.history
            && !self.send_history(range, lines).await?
        {
            return Ok(());
        }
        if self.wanted.realtime { self.send_present(lines).await } else { Ok(()) }
    }

    /// False if nobody listens any more.
    async fn send_history(&mut self, Range { from_us, until_us }: Range, lines: &Lines) -> Result<bool, ReadError> {
        let (mut after, last) = ((i64::MIN, i64::MIN), self.last);
        loop {
            let batch = self.in_thread(move |db| db.between((from_us, until_us), after, last, BATCH)).await?;
            let whole = batch.len() == BATCH;
            after = batch.last().map_or(after, |line| (line.row.at_us, line.id));
            if !self.pass_on(lines, batch).await {
                return Ok(false);
            }
            if !whole {
                return Ok(true);
            }
        }
    }

    async fn send_present(&mut self, lines: &Lines) -> Result<(), ReadError> {
        let mut written = self.site.registry().written();
        loop {
            let last = self.last;
            let batch = self.in_thread(move |db| db.since(last, BATCH)).await?;
            let whole = batch.len() == BATCH;
            self.last = batch.last().map_or(last, |line| line.id);
            if !self.pass_on(lines, batch).await {
                return Ok(());
            }
            if !whole {
                let last = self.last;
                tokio::select! {
                    // The sender lives as long as the registry.
                    _ = written.wait_for(|written| written.last_id > last) => {}
                    () = lines.closed() => return Ok(()),
                }
            }
        }
    }

    /// Reads in a thread that may block.
    async fn in_thread(
        &mut self,
        work: impl FnOnce(&LogReader) -> rusqlite::Result<Vec<KeptLine>> + Send + 'static,
    ) -> Result<Vec<KeptLine>, ReadError> {
        // It is there: whoever took it has put it back, or ended the reading with an error.
        let Some(db) = self.db.take() else { return Ok(Vec::new()) };
        let (db, batch) = tokio::task::spawn_blocking(move || {
            let batch = work(&db);
            (db, batch)
        })
        .await?;
        self.db = Some(db);
        Ok(batch?)
    }

    /// Sends those that the filter takes; false if nobody listens any more.
    async fn pass_on(&mut self, lines: &Lines, batch: Vec<KeptLine>) -> bool {
        let taken: Vec<_> = batch.into_iter().filter(|line| self.wanted.filter.takes(line)).collect();
        if taken.is_empty() {
            return !lines.is_closed();
        }
        lines.send(Ok(named(&self.site, taken))).await.is_ok()
    }
}

/// The lines with the names of their issuers.
fn named(site: &Site, lines: Vec<KeptLine>) -> Vec<LogLine> {
    let mut names: HashMap<Issuer, String> = HashMap::new();
    let state = site.state();
    let mut name = |issuer| {
        let name = names.entry(issuer).or_insert_with(|| match issuer {
            Issuer::Server => "server".to_owned(),
            Issuer::Device(mac) => {
                state.registrar.device(mac).map_or_else(|| mac.to_string(), |device| device.row.name.clone())
            }
        });
        name.clone()
    };
    let named = lines.into_iter().map(|KeptLine { row, .. }| LogLine {
        timestamp_us: row.at_us,
        issuer: name(row.issuer),
        stream: row.stream,
        line: row.line,
    });
    named.collect()
}
