//! Log lines for a reader: of the past, and of the present for as long as it listens.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::LogLine;
use regex::Regex;
use tokio::sync::mpsc;

use super::Range;
use crate::registry::{Issuer, KeptLine, LogReader, RegistryError};
use crate::site::Site;

/// Lines read from the disk at once.
const BATCH: usize = 1000;
/// Longest wait for lines that have come and are not on disk yet.
const SETTLING: Duration = Duration::from_secs(2);

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

/// Sends what is wanted, some lines at a time, until there is no more or nobody takes it.
///
/// # Errors
/// The registry can not be read.
pub async fn read(site: Arc<Site>, wanted: Wanted, lines: mpsc::Sender<Vec<LogLine>>) -> Result<(), ReadError> {
    // What comes later than this is the present.
    let mut last = site.registry().settle_logs(SETTLING).await.last_id;
    let registry = site.registry().clone();
    let mut reader = Some(tokio::task::spawn_blocking(move || registry.log_reader()).await??);
    let filter = Arc::new(wanted.filter);
    if let Some(Range { from_us, until_us }) = wanted.history {
        let mut after = (i64::MIN, i64::MIN);
        loop {
            let batch = in_thread(&mut reader, move |reader| reader.between((from_us, until_us), after, last, BATCH));
            let batch = batch.await?;
            let whole = batch.len() == BATCH;
            after = batch.last().map_or(after, |line| (line.row.at_us, line.id));
            if !send(&site, &filter, &lines, batch).await {
                return Ok(());
            }
            if !whole {
                break;
            }
        }
    }
    if !wanted.realtime {
        return Ok(());
    }
    let mut written = site.registry().written();
    loop {
        let batch = in_thread(&mut reader, move |reader| reader.since(last, BATCH)).await?;
        let whole = batch.len() == BATCH;
        last = batch.last().map_or(last, |line| line.id);
        if !send(&site, &filter, &lines, batch).await {
            return Ok(());
        }
        if !whole {
            tokio::select! {
                changed = written.wait_for(|written| written.last_id > last) => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = lines.closed() => return Ok(()),
            }
        }
    }
}

/// Reads in a thread that may block.
async fn in_thread(
    place: &mut Option<LogReader>,
    work: impl FnOnce(&LogReader) -> rusqlite::Result<Vec<KeptLine>> + Send + 'static,
) -> Result<Vec<KeptLine>, ReadError> {
    // It is there: whoever took it has put it back, or ended the reading with an error.
    let Some(reader) = place.take() else { return Ok(Vec::new()) };
    let (reader, batch) = tokio::task::spawn_blocking(move || {
        let batch = work(&reader);
        (reader, batch)
    })
    .await?;
    *place = Some(reader);
    Ok(batch?)
}

/// Sends those that the filter takes; false if nobody listens any more.
async fn send(site: &Site, filter: &Filter, lines: &mpsc::Sender<Vec<LogLine>>, batch: Vec<KeptLine>) -> bool {
    let mut taken: Vec<_> = batch.into_iter().filter(|line| filter.takes(line)).collect();
    if taken.is_empty() {
        return !lines.is_closed();
    }
    let mut names: HashMap<Issuer, String> = HashMap::new();
    {
        let state = site.state();
        for line in &taken {
            names.entry(line.row.issuer).or_insert_with(|| match line.row.issuer {
                Issuer::Server => "server".to_owned(),
                Issuer::Device(mac) => {
                    state.registrar.device(mac).map_or_else(|| mac.to_string(), |device| device.row.name.clone())
                }
            });
        }
    }
    let of_reader = taken.drain(..).map(|line| LogLine {
        timestamp_us: line.row.at_us,
        issuer: names.get(&line.row.issuer).cloned().unwrap_or_default(),
        stream: line.row.stream,
        line: line.row.line,
    });
    lines.send(of_reader.collect()).await.is_ok()
}
