//! QEMU's control socket: lines of JSON (QEMU's document "QEMU Machine Protocol").

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest line that is read, in bytes: the greeting and events have some hundreds.
const MAX_LINE: u64 = 64 * 1024;
/// Time that QEMU has to greet and to take part: it does so at once, even if its guest hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a machine that runs.
#[derive(Debug)]
pub(super) struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or it is not QEMU.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let opening = async {
            let mut control = Self { stream: BufReader::new(UnixStream::connect(path).await?) };
            let greeting = control.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if !greeting.contains("\"QMP\"") {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not QEMU"));
            }
            control.execute("qmp_capabilities").await?;
            Ok(control)
        };
        tokio::time::timeout(PATIENCE, opening).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Sends a command; what comes back is read by [`ended`](Self::ended).
    pub(super) async fn execute(&mut self, command: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes()).await
    }

    /// Waits until the machine ends.
    pub(super) async fn ended(&mut self) {
        while let Ok(Some(line)) = self.line().await {
            tracing::trace!(line, "of QEMU");
        }
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}
