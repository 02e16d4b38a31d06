//! Hard reboots: the power of a node is cut, whatever it runs.
//!
//! The ways, in the order in which they are tried: the port of its switch (PoE), the user's program, and, for a node that
//! is off, a magic packet.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use api::{NodeState, Problem, ProblemKind};
use net::MacAddr;

use super::Devices;
use crate::registry::DeviceRow;
use crate::site::now_ms;

/// How a node was made to start again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Its switch did not power it for some seconds.
    Port {
        /// Name of the switch.
        switch: String,
        /// Name of the port.
        port: String,
        /// Seconds without power.
        seconds: u64,
    },
    /// The user's program said that it did it.
    Hook(PathBuf),
    /// A magic packet was sent.
    Wake,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { switch, port, seconds } => {
                write!(f, "port {port} of {switch} gave it no power for {seconds} s")
            }
            Self::Hook(program) => write!(f, "{} has switched it off and on", program.display()),
            Self::Wake => f.write_str("a magic packet was sent, which wakes it if it is off and set to heed it"),
        }
    }
}

/// Why one of the ways was not gone.
#[derive(Debug)]
pub(super) enum Blocked {
    /// It is no way for this node: another one is tried.
    NoWay(String),
    /// It failed, and it is not clear what state the node is in.
    Failed(Problem),
}

impl Blocked {
    pub(super) fn failed(message: String, hint: &str) -> Self {
        Self::Failed(Problem { kind: ProblemKind::Unreachable, message, hint: Some(hint.into()) })
    }
}

impl Devices {
    /// Has the power of a node cut and given again. Goes on to its end even if nobody waits for it any more: a port that
    /// was switched off is switched on again.
    ///
    /// # Errors
    /// There is no way, or it failed; the message says which ones there could be.
    pub async fn power_cycle(self: &Arc<Self>, mac: MacAddr) -> Result<Way, Problem> {
        let devices = self.clone();
        let job = tokio::spawn(async move { devices.cycle(mac).await });
        job.await.unwrap_or_else(|panic| {
            let message = format!("a fault of the server itself: {panic}");
            Err(Problem { kind: ProblemKind::Internal, message, hint: None })
        })
    }

    /// Sends a magic packet to a device.
    ///
    /// # Errors
    /// The network does not take it.
    pub async fn wake(&self, mac: MacAddr) -> Result<Way, Problem> {
        let sent = super::wake::send(&self.here, mac).await;
        sent.map(|()| Way::Wake).map_err(|cause| Problem {
            kind: ProblemKind::Internal,
            message: format!("can not send a magic packet to {mac} by {}: {cause}", self.here.interface),
            hint: None,
        })
    }

    async fn cycle(&self, mac: MacAddr) -> Result<Way, Problem> {
        let (node, state) = {
            let state = self.site.state();
            let Some(device) = state.registrar.device(mac) else {
                let message = format!("{mac} has been forgotten meanwhile");
                return Err(Problem { kind: ProblemKind::UnknownNode, message, hint: None });
            };
            let power = state.timeline(mac).map_or(NodeState::Off, |timeline| timeline.state(now_ms()));
            (device.row.clone(), power)
        };
        let way = self.try_ways(&node, state).await?;
        self.site.tell(format!("{}: hard reboot: {way}", node.name));
        Ok(way)
    }

    async fn try_ways(&self, node: &DeviceRow, state: NodeState) -> Result<Way, Problem> {
        let by_port = match self.cycle_port(node).await {
            Ok(way) => return Ok(way),
            Err(Blocked::Failed(problem)) => return Err(problem),
            Err(Blocked::NoWay(reason)) => reason,
        };
        match self.hooks.power("cycle", &node.name, node.mac, node.ip).await {
            Some(Ok(program)) => return Ok(Way::Hook(program)),
            Some(Err(error)) => {
                let message = format!("{} can not be switched off and on: {error}; {by_port}", node.name);
                return Err(Problem { kind: ProblemKind::Unreachable, message, hint: None });
            }
            None => {}
        }
        if matches!(state, NodeState::Off | NodeState::Unreachable) {
            return self.wake(node.mac).await;
        }
        Err(Problem {
            kind: ProblemKind::Unreachable,
            message: format!("there is no way to switch {} off and on: {by_port}; no [hooks] power is set", node.name),
            hint: Some(
                "a switch that powers it (`walt device config SWITCH poe.reboots=true …`) or a program of your own \
                 ([hooks] power in server.toml) would be one; see docs/devices.md"
                    .into(),
            ),
        })
    }
}
