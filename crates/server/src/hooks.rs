//! Programs of the user.
//!
//! The lease hook is run at each acknowledged lease with the arguments `commit VCI UCI IP MAC NAME`
//! and the same in the environment: `WALT_EVENT` (`lease`), `WALT_VCI`, `WALT_UCI`, `WALT_IP`,
//! `WALT_MAC`, `WALT_HOST_NAME`. It reads nothing and its output goes to the daemon's log. It never
//! delays DHCP or a boot: a bounded number wait, a bounded number run, each for a bounded time.
//!
//! The power hook is run when a node is to be switched off and on, with the arguments `cycle NAME MAC IP`; its exit status
//! tells whether it was done.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use net::{LeaseEvent, MacAddr};
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
    power: Option<PathBuf>,
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Hooks {
    /// With `lease` as the lease hook, if there is one.
    pub fn new(lease: Option<PathBuf>) -> Self {
        Self { lease, power: None, running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }

    /// With `power` as the power hook, too, if there is one.
    pub fn with_power(self, power: Option<PathBuf>) -> Self {
        Self { power, ..self }
    }

    /// Runs the power hook for a node, and waits for its end. `None` if there is none.
    pub async fn power(
        &self,
        action: &str,
        name: &str,
        mac: MacAddr,
        ip: Ipv4Addr,
    ) -> Option<Result<PathBuf, PowerHookError>> {
        let program = self.power.clone()?;
        let _turn = self.running.acquire().await;
        let mut command = Command::new(&program);
        command.args([action, name, &mac.to_string(), &ip.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Some(match tokio::time::timeout(TIME_LIMIT, command.output()).await {
            Err(_) => Err(PowerHookError::TooSlow { program }),
            Ok(Err(cause)) => Err(PowerHookError::Run { program, cause }),
            Ok(Ok(output)) if output.status.success() => Ok(program),
            Ok(Ok(output)) => Err(PowerHookError::Failed {
                program,
                status: output.status,
                said: said(&[output.stdout, output.stderr].concat()),
            }),
        })
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

/// Why the power hook did not do it.
#[derive(Debug, thiserror::Error)]
pub enum PowerHookError {
    /// It could not be started.
    #[error("can not run {}: {cause}", program.display())]
    Run {
        /// The hook.
        program: PathBuf,
        /// Reason.
        cause: std::io::Error,
    },
    /// It was killed.
    #[error("{} was killed: it ran for more than {} s", program.display(), TIME_LIMIT.as_secs())]
    TooSlow {
        /// The hook.
        program: PathBuf,
    },
    /// It said so.
    #[error("{} failed ({status}){said}", program.display())]
    Failed {
        /// The hook.
        program: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// `: ` and its output in one line, if there was any.
        said: String,
    },
}

fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(&output[..output.len().min(MAX_OUTPUT)]).into_owned();
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() { text } else { format!(": {text}") }
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
    async fn the_power_hook_tells_whether_it_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let script = "[ \"$*\" = 'cycle node-1 02:00:00:00:00:01 10.0.0.1' ] || { echo no such outlet; exit 3; }";
        let hooks = Hooks::new(None).with_power(Some(hook(&dir, script)));
        let (mac, ip) = (MacAddr([2, 0, 0, 0, 0, 1]), [10, 0, 0, 1].into());
        hooks.power("cycle", "node-1", mac, ip).await.unwrap().unwrap();
        let error = hooks.power("cycle", "node-2", mac, ip).await.unwrap().unwrap_err().to_string();
        assert!(error.ends_with("failed (exit status: 3): no such outlet"), "{error}");
        let error = Hooks::new(None).with_power(Some(dir.path().join("missing")));
        assert!(error.power("cycle", "node-1", mac, ip).await.unwrap().is_err());
        assert!(Hooks::new(None).power("cycle", "node-1", mac, ip).await.is_none());
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
