//! Programs of the user.
//!
//! The lease hook is run at each acknowledged lease with the arguments `commit VCI UCI IP MAC NAME`
//! and the same in the environment: `WALT_EVENT` (`lease`), `WALT_VCI`, `WALT_UCI`, `WALT_IP`,
//! `WALT_MAC`, `WALT_HOST_NAME`. It reads nothing and its output goes to the daemon's log. It never
//! delays DHCP or a boot: a bounded number wait, a bounded number run, each for a bounded time.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use net::LeaseEvent;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// Hooks that run at once.
const AT_ONCE: usize = 4;
/// Hooks that wait for their turn; more are dropped, and said so.
const WAITING: usize = 256;
/// Time that a hook has.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Output of a hook that is logged, in bytes.
const MAX_OUTPUT: usize = 2048;

/// The hooks that are configured.
#[derive(Debug, Clone)]
pub struct Hooks {
    lease: Option<PathBuf>,
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Hooks {
    /// With `lease` as the lease hook, if there is one.
    pub fn new(lease: Option<PathBuf>) -> Self {
        Self { lease, running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }

    /// Has the lease hook run for `event`, some time. Returns at once.
    pub fn lease(&self, event: LeaseEvent) {
        let Some(program) = self.lease.clone() else { return };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(mac = %event.mac, "lease hook not run: {WAITING} are waiting already");
            return;
        }
        let hooks = self.clone();
        tokio::spawn(async move {
            let turn = hooks.running.acquire().await;
            hooks.waiting.fetch_sub(1, Ordering::Relaxed);
            if turn.is_ok() {
                run(&program, &event, TIME_LIMIT).await;
            }
        });
    }
}

async fn run(program: &PathBuf, event: &LeaseEvent, limit: Duration) {
    let (ip, mac) = (event.ip.to_string(), event.mac.to_string());
    // The class names are the client's own text: a NUL can not be in an argument.
    let [vci, uci, name] = [&event.vci, &event.uci, &event.host_name].map(|text| text.replace('\0', ""));
    let mut command = Command::new(program);
    command
        .args(["commit", &vci, &uci, &ip, &mac, &name])
        .envs([("WALT_EVENT", "lease"), ("WALT_VCI", &vci), ("WALT_UCI", &uci), ("WALT_IP", &ip)])
        .envs([("WALT_MAC", &mac), ("WALT_HOST_NAME", &name)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let program = program.display();
    match tokio::time::timeout(limit, command.output()).await {
        Err(_) => tracing::warn!(%program, %mac, "lease hook killed: it ran for more than {} s", limit.as_secs()),
        Ok(Err(cause)) => tracing::warn!(%program, %mac, %cause, "can not run the lease hook"),
        Ok(Ok(output)) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_OUTPUT)]).into_owned();
            if output.status.success() {
                tracing::info!(%program, %mac, output = text.trim(), "lease hook run");
            } else {
                tracing::warn!(%program, %mac, status = %output.status, output = text.trim(), "lease hook failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use net::MacAddr;

    use super::*;

    fn event() -> LeaseEvent {
        LeaseEvent {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: [10, 0, 0, 1].into(),
            vci: "walt.node.pc-x86-64".into(),
            uci: "a b$(touch x)\0".into(),
            host_name: String::new(),
        }
    }

    fn hook(dir: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_hook_gets_the_lease_as_arguments_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("printf '%s|' \"$@\" \"$WALT_UCI\" > {}", out.display());
        run(&hook(&dir, &script), &event(), TIME_LIMIT).await;
        let text = std::fs::read_to_string(out).unwrap();
        assert_eq!(text, "commit|walt.node.pc-x86-64|a b$(touch x)|10.0.0.1|02:00:00:00:00:01||a b$(touch x)|");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_and_one_that_is_missing_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        run(&hook(&dir, "exec sleep 60"), &event(), Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(10));
        run(&dir.path().join("missing"), &event(), TIME_LIMIT).await;
    }

    #[tokio::test]
    async fn a_flood_of_leases_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let hooks = Hooks::new(Some(hook(&dir, "sleep 0.01")));
        for _ in 0..2 * WAITING {
            hooks.lease(event());
        }
        assert_eq!(hooks.waiting.load(Ordering::Relaxed), WAITING);
    }
}
