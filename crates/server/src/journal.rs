//! The daemon's own log: structured lines, to stderr and into the registry.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::logs;
use crate::registry::{Issuer, LogRow, Registry};
use crate::site::now_ms;
use crate::supervise::panic_message;

/// Where lines go beside stderr, once it is open.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Begins to log what `filter` lets through, such as `info` or `walt_server=debug,info`.
///
/// # Errors
/// The filter is malformed.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| anyhow::anyhow!("--log {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_target(false);
    let all = tracing_subscriber::registry().with(filter).with(IntoRegistry);
    // The journal has a clock of its own (systemd.exec(5), $JOURNAL_STREAM).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        all.with(lines.without_time()).init();
    } else {
        all.with(lines).init();
    }
    // A panic is a line of the log like any other, with its place.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, message = panic_message(panic.payload()), "panic");
    }));
    Ok(())
}

/// From now on lines are kept in the registry, too.
pub fn keep_in(registry: &Registry) {
    // A second daemon in one process, as in a test, changes nothing.
    let _ = REGISTRY.set(registry.clone());
}

struct IntoRegistry;

impl<S: Subscriber> Layer<S> for IntoRegistry {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let Some(registry) = REGISTRY.get() else { return };
        let mut text = Text { message: String::new(), fields: String::new() };
        event.record(&mut text);
        let line = format!("{} {}{}", event.metadata().level(), text.message, text.fields);
        registry.log(LogRow { issuer: Issuer::Server, stream: logs::DAEMON.to_owned(), at_us: now_ms() * 1000, line });
    }
}

/// An event in words: its message, and ` name=value` for each field.
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
