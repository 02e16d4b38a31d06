//! Log lines: structured, to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::supervise::panic_message;

/// Begins to log what `filter` lets through, such as `info` or `walt_server=debug,info`.
///
/// # Errors
/// The filter is malformed.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| anyhow::anyhow!("--log {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_target(false);
    // The journal has a clock of its own (systemd.exec(5), $JOURNAL_STREAM).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init()
    } else {
        lines.init()
    }
    // A panic is a line of the log like any other, with its place.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, message = panic_message(panic.payload()), "panic");
    }));
    Ok(())
}
