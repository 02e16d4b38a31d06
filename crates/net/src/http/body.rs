//! The body of a response: a short text, a file streamed in pieces, or what a handler gives.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::body::{Bytes, Frame, SizeHint};

use super::HandlerBody;
use crate::bootfile::BootFile;
use crate::{Event, Events};

/// Bytes read at a time: what a connection holds in memory.
const PIECE: u64 = 256 << 10;

/// Body of a response.
pub(super) enum Body {
    /// A line for people, or nothing.
    Text(Bytes),
    /// A file, or a part of it.
    File(FileBody),
    /// What a handler answers.
    Handed(HandlerBody),
}

/// Bytes of a file, read as the connection takes them.
pub(super) struct FileBody {
    file: BootFile,
    range: Range<u64>,
    reading: Option<Pin<Box<Reading>>>,
    record: Record,
}

/// A read under way.
type Reading = dyn Future<Output = io::Result<Vec<u8>>> + Send + Sync;

/// Tells the daemon when the body is over, one way or the other.
struct Record {
    events: Events,
    client: Ipv4Addr,
    path: String,
    begin: Instant,
    bytes: u64,
    error: Option<String>,
}

impl FileBody {
    pub(super) fn new(file: BootFile, range: Range<u64>, client: Ipv4Addr, path: String, events: Events) -> Self {
        // Until the last byte has been taken, it is a transfer that was cut.
        let error = (!range.is_empty()).then(|| "connection closed".to_owned());
        let record = Record { events, client, path, begin: Instant::now(), bytes: 0, error };
        Self { file, range, reading: None, record }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.events.send(Event::FileServed {
            client: self.client,
            service: "http",
            path: std::mem::take(&mut self.path),
            bytes: self.bytes,
            duration: self.begin.elapsed(),
            error: self.error.take(),
        });
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = match &mut *self {
            Self::Text(text) => Ok(std::mem::take(text)),
            Self::File(file) => ready!(file.poll_piece(cx)),
            Self::Handed(body) => return body.as_mut().poll_frame(cx),
        };
        Poll::Ready(match bytes {
            Ok(bytes) if bytes.is_empty() => None,
            other => Some(other.map(Frame::data).map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::File(file) => file.range.is_empty(),
            Self::Handed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.range.end - file.range.start),
            Self::Handed(body) => body.size_hint(),
        }
    }
}

impl FileBody {
    /// The next piece; empty at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let remaining = self.range.end - self.range.start;
        if remaining == 0 {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, offset, len) = (self.file.clone(), self.range.start, remaining.min(PIECE));
            // At most PIECE.
            Box::pin(async move { file.read(offset, len as usize).await })
        });
        let piece = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        match &piece {
            Ok(bytes) => {
                self.range.start += bytes.len() as u64;
                self.record.bytes += bytes.len() as u64;
                if self.range.is_empty() {
                    self.record.error = None;
                }
            }
            Err(error) => {
                tracing::error!(client = %self.record.client, path = self.record.path, %error, "cannot read a boot file");
                self.record.error = Some(format!("read error: {error}"));
            }
        }
        Poll::Ready(piece.map(Bytes::from))
    }
}
