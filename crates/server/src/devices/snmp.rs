//! SNMP to a switch: bounded in time, in answers, and in what is kept of them.

use std::net::SocketAddrV4;
use std::time::Duration;

use async_snmp::client::{OidOrdering, WalkMethod, WalkOptions};
use async_snmp::{Auth, Client, Oid, Retry, Value};

use crate::registration::config::value;
use crate::registration::switches;
use crate::registry::DeviceRow;

/// Time for an answer, of which two attempts are made: a switch's processor is slow, and its answers may get lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rows that are asked for at once: as many as fit into a datagram of a usual network.
const ROWS_AT_ONCE: u32 = 25;

/// How a switch is spoken with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Access {
    address: SocketAddrV4,
    version: String,
    community: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A switch that is spoken with.
pub(super) struct Session {
    client: Client,
    address: SocketAddrV4,
}

/// Why a switch does not tell, or does not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnmpError {
    /// It does not answer.
    #[error("{0} does not answer SNMP: it is off, does not speak it, or has another community")]
    Silent(SocketAddrV4),
    /// It answers, but with an error or nonsense.
    #[error("{address} fails to {what}: {cause}")]
    Failed {
        /// The switch.
        address: SocketAddrV4,
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        cause: String,
    },
}

impl Access {
    /// As the device's settings say.
    pub(super) fn of(row: &DeviceRow) -> Self {
        // The settings were checked when they were set.
        let port = value(row, "snmp.port").parse().unwrap_or(161);
        Self {
            address: SocketAddrV4::new(switches::snmp_address(row), port),
            version: value(row, "snmp.version").to_owned(),
            community: value(row, "snmp.community").to_owned(),
        }
    }

    /// It answers, but not all of it in time.
    pub(super) fn too_slow(&self, limit: std::time::Duration) -> SnmpError {
        let cause = format!("not done after {} s", limit.as_secs());
        SnmpError::Failed { address: self.address, what: "tell all that it knows", cause }
    }

    /// Opens a socket to it.
    pub(super) async fn open(&self) -> Result<Session, SnmpError> {
        let auth = match self.version.as_str() {
            "1" => Auth::v1(self.community.as_str()),
            _ => Auth::v2c(self.community.as_str()),
        };
        let failed = |cause: String| SnmpError::Failed { address: self.address, what: "be asked", cause };
        let retry = Retry::fixed(1, Duration::ZERO).map_err(|cause| failed(cause.to_string()))?;
        let builder = Client::builder((self.address.ip().to_string(), self.address.port()), auth);
        let client = builder.request_timeout(PATIENCE).retry(retry).connect().await;
        Ok(Session { client: client.map_err(|cause| failed(cause.to_string()))?, address: self.address })
    }
}

impl Session {
    /// The rows of a column (or of a whole table), by what follows `base` in their names; none if it has no such table.
    pub(super) async fn walk(&self, base: &[u32], most: usize) -> Result<Vec<(Vec<u32>, Value)>, SnmpError> {
        let options = WalkOptions {
            method: WalkMethod::Auto,
            max_repetitions: ROWS_AT_ONCE,
            // A switch that goes round in circles is not followed.
            ordering: OidOrdering::Strict,
            result_limit: Some(most),
        };
        let what = "list its tables";
        let rows = self.client.walk_with(Oid::from_slice(base), options).map_err(|cause| self.error(what, *cause))?;
        let rows = rows.collect().await.map_err(|cause| self.error(what, *cause))?;
        let row = |row: async_snmp::VarBind| Some((row.oid.arcs().get(base.len()..)?.to_vec(), row.value));
        Ok(rows.into_iter().filter_map(row).collect())
    }

    /// One value; `None` if it has none of this name.
    pub(super) async fn get(&self, name: &[u32]) -> Result<Option<Value>, SnmpError> {
        match self.client.get(&Oid::from_slice(name)).await {
            Ok(answer) => Ok(answer.single().map(|row| row.value.clone()).filter(|value| !value.is_exception())),
            // Version 1 has no other word for it.
            Err(cause) if is_no_such_name(&cause) => Ok(None),
            Err(cause) => Err(self.error("tell a value", *cause)),
        }
    }

    /// Sets a number.
    pub(super) async fn set(&self, name: &[u32], number: i32) -> Result<(), SnmpError> {
        let answer = self.client.set(&Oid::from_slice(name), Value::Integer(number)).await;
        answer.map(drop).map_err(|cause| self.error("set a value", *cause))
    }

    fn error(&self, what: &'static str, cause: async_snmp::Error) -> SnmpError {
        match cause.exchange_source() {
            async_snmp::Error::Timeout { .. } => SnmpError::Silent(self.address),
            other => {
                SnmpError::Failed { address: self.address, what, cause: other.to_string().chars().take(200).collect() }
            }
        }
    }
}

fn is_no_such_name(cause: &async_snmp::Error) -> bool {
    use async_snmp::error::ErrorStatus;
    matches!(cause, async_snmp::Error::Snmp { status: ErrorStatus::NoSuchName, .. })
}
