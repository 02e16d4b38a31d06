//! One line of the boot's own log.

use std::fmt;

/// Longest detail kept, in bytes; the rest is cut.
const MAX_DETAIL: usize = 2048;

/// A step of the agent's boot, as told to the server:
/// `step=<name> uptime_ms=<n> status=ok|failed detail=<text>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootStep {
    /// Name of the step: one word, without spaces.
    pub name: String,
    /// Milliseconds from the start of the kernel to the end of the step.
    pub uptime_ms: u64,
    /// Whether the step did what it had to do.
    pub ok: bool,
    /// What was done or why it failed; one line, may be empty.
    pub detail: String,
}

/// The line tells no boot step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootStepError {
    /// A field is absent or out of its order.
    #[error("boot step without {0}=")]
    MissingField(&'static str),
    /// `step=` has no value.
    #[error("boot step without a name")]
    EmptyName,
    /// `uptime_ms=` is no number of milliseconds.
    #[error("uptime_ms={0:?} is not a number of milliseconds")]
    BadUptime(String),
    /// `status=` is neither `ok` nor `failed`.
    #[error("status={0:?} is neither ok nor failed")]
    BadStatus(String),
}

impl BootStep {
    /// Reads a line (without its newline).
    pub fn parse(line: &str) -> Result<Self, BootStepError> {
        let (name, rest) = field(line, "step")?;
        let (uptime, rest) = field(rest, "uptime_ms")?;
        let (status, rest) = field(rest, "status")?;
        let detail = rest.strip_prefix("detail=").ok_or(BootStepError::MissingField("detail"))?;
        if name.is_empty() {
            return Err(BootStepError::EmptyName);
        }
        Ok(Self {
            name: name.to_owned(),
            uptime_ms: uptime.parse().map_err(|_| BootStepError::BadUptime(uptime.to_owned()))?,
            ok: match status {
                "ok" => true,
                "failed" => false,
                other => return Err(BootStepError::BadStatus(other.to_owned())),
            },
            detail: one_line(detail),
        })
    }
}

impl fmt::Display for BootStep {
    /// The line to send, without its newline: always one line, whatever the fields hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: String =
            self.name.chars().map(|c| if c.is_whitespace() || c.is_control() { '-' } else { c }).collect();
        let status = if self.ok { "ok" } else { "failed" };
        write!(f, "step={name} uptime_ms={} status={status} detail={}", self.uptime_ms, one_line(&self.detail))
    }
}

fn field<'a>(text: &'a str, name: &'static str) -> Result<(&'a str, &'a str), BootStepError> {
    let value = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    value.and_then(|rest| rest.split_once(' ')).ok_or(BootStepError::MissingField(name))
}

/// Control characters become spaces (a detail often is an error text from elsewhere, and the server
/// prints it on terminals), and the length is bounded.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|&i| line.is_char_boundary(i)).unwrap_or(0);
        line.truncate(end);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_survives_the_wire() {
        let step =
            BootStep { name: "union".into(), uptime_ms: 4711, ok: true, detail: "overlay over nfs, xino=on".into() };
        assert_eq!(step.to_string(), "step=union uptime_ms=4711 status=ok detail=overlay over nfs, xino=on");
        assert_eq!(BootStep::parse(&step.to_string()), Ok(step));
        let empty = BootStep { name: "x".into(), uptime_ms: 0, ok: false, detail: String::new() };
        assert_eq!(BootStep::parse(&empty.to_string()), Ok(empty));
    }

    #[test]
    fn hostile_fields_stay_on_one_line() {
        let step = BootStep {
            name: "a b\n".into(),
            uptime_ms: 1,
            ok: false,
            detail: format!("x\nstep=y\x1b[2J{}", "é".repeat(4000)),
        };
        let line = step.to_string();
        assert!(!line.chars().any(char::is_control), "{line}");
        let read = BootStep::parse(&line).unwrap();
        assert_eq!(read.name, "a-b-");
        assert!(read.detail.starts_with("x step=y [2Jé") && read.detail.len() <= MAX_DETAIL, "{}", read.detail);
    }

    #[test]
    fn each_broken_field_is_named() {
        for (line, error) in [
            ("", BootStepError::MissingField("step")),
            ("hello", BootStepError::MissingField("step")),
            ("step=a", BootStepError::MissingField("step")),
            ("step=a b", BootStepError::MissingField("uptime_ms")),
            ("step=a uptime_ms=1 status=ok", BootStepError::MissingField("status")),
            ("step=a uptime_ms=1 status=ok ", BootStepError::MissingField("detail")),
            ("step= uptime_ms=1 status=ok detail=", BootStepError::EmptyName),
            ("step=a uptime_ms=-1 status=ok detail=", BootStepError::BadUptime("-1".into())),
            (
                "step=a uptime_ms=99999999999999999999 status=ok detail=",
                BootStepError::BadUptime("99999999999999999999".into()),
            ),
            ("step=a uptime_ms=1 status=OK detail=", BootStepError::BadStatus("OK".into())),
        ] {
            assert_eq!(BootStep::parse(line), Err(error), "{line:?}");
        }
    }
}
