//! Keeps watch over the daemon's parts.
//!
//! Each part runs for ever. One that ends, by an error or a panic, must not leave a daemon behind
//! that looks alive but serves no DHCP: the whole daemon then stops with an error, and systemd
//! starts it again. Nodes that are up outlive that (their grace time is 60 s, a start takes less
//! than one).

use std::fmt::Display;
use std::future::Future;

use tokio::task::JoinSet;

/// The parts that run.
#[derive(Debug, Default)]
pub struct Parts {
    tasks: JoinSet<(&'static str, String)>,
}

/// A part that has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has stopped: {cause}")]
pub struct Stopped {
    /// Name of the part.
    pub name: String,
    /// Its error, or the message of its panic.
    pub cause: String,
}

impl Parts {
    /// Runs `part`, which has no reason to end.
    pub fn add<T, E: Display>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<T, E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            // In a task of its own, so that its panic comes with its name.
            let cause = match part.await {
                Ok(_) => "it ended".to_owned(),
                Err(error) => error.to_string(),
            };
            (name, cause)
        });
    }

    /// Waits until a part ends.
    pub async fn stopped(&mut self) -> Stopped {
        match self.tasks.join_next().await {
            Some(Ok((name, cause))) => Stopped { name: name.to_owned(), cause },
            Some(Err(error)) => {
                let cause = match error.try_into_panic() {
                    Ok(panic) => panic_message(&*panic),
                    Err(error) => error.to_string(),
                };
                Stopped { name: "a part".into(), cause: format!("it panicked: {cause}") }
            }
            None => Stopped { name: "the daemon".into(), cause: "no part of it runs".into() },
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn for_ever() -> Result<Infallible, String> {
        std::future::pending().await
    }

    #[tokio::test]
    async fn a_part_that_fails_is_named() {
        let mut parts = Parts::default();
        parts.add("dhcp", for_ever());
        parts.add("tftp", async { Err::<Infallible, _>("socket broke") });
        assert_eq!(parts.stopped().await.to_string(), "tftp has stopped: socket broke");
    }

    #[tokio::test]
    async fn a_panic_is_not_silent() {
        let mut parts = Parts::default();
        parts.add("dhcp", for_ever());
        parts.add::<Infallible, String>("nfs", async { panic!("index {} is wrong", 7) });
        let stopped = parts.stopped().await.to_string();
        assert!(stopped.contains("index 7 is wrong"), "{stopped}");
    }
}
