//! Who asks.

use std::io;
use std::sync::Arc;

use api::{Problem, ProblemKind};
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

/// The user at the other end.
#[derive(Debug, Clone)]
pub struct Caller(Known);

/// What a user is known by.
#[derive(Debug, Clone)]
enum Known {
    /// The process at the other end of the control socket, as the kernel knows it (unix(7), `SO_PEERCRED`): id of its
    /// user; `None` if the kernel did not tell.
    Process(Option<u32>),
    /// A token.
    Token(Arc<str>),
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(Known::Process(stream.io().peer_cred().ok().map(|credentials| credentials.uid())))
    }
}

impl Caller {
    /// The user whose token has come over the network.
    pub(crate) fn named(user: Arc<str>) -> Self {
        Self(Known::Token(user))
    }

    /// Name of the user; the number of one without a name.
    ///
    /// # Errors
    /// The kernel or the user database does not tell.
    pub(crate) async fn user(&self) -> Result<String, Problem> {
        let unknown = |cause: io::Error| Problem {
            kind: ProblemKind::Internal,
            message: format!("can not find out who you are: {cause}"),
            hint: None,
        };
        let uid = match &self.0 {
            Known::Token(user) => return Ok(user.to_string()),
            Known::Process(uid) => uid.ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))?,
        };
        // A directory service may be asked.
        let name = tokio::task::spawn_blocking(move || sys::user::name(uid)).await;
        let name = name.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(unknown)?;
        Ok(name.unwrap_or_else(|| uid.to_string()))
    }
}
