//! Whether this machine passes packets on between its networks.

use std::path::Path;

/// The kernel's switch (Documentation/networking/ip-sysctl.rst).
pub(super) const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// Turns it on; false if it was on already.
///
/// # Errors
/// It can not be read or written.
pub(super) async fn enable(switch: &Path) -> Result<bool, String> {
    let told = |error| format!("can not have this machine pass packets on: {}: {error}", switch.display());
    if tokio::fs::read_to_string(switch).await.map_err(told)?.trim() != "0" {
        return Ok(false);
    }
    tokio::fs::write(switch, "1\n").await.map_err(told)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_turned_on_once() {
        let directory = tempfile::tempdir().unwrap();
        let switch = directory.path().join("ip_forward");
        assert!(enable(&switch).await.unwrap_err().contains("ip_forward: No such file"));
        std::fs::write(&switch, "0\n").unwrap();
        assert_eq!(enable(&switch).await, Ok(true));
        assert_eq!(enable(&switch).await, Ok(false));
        assert_eq!(std::fs::read_to_string(&switch).unwrap(), "1\n");
    }
}
