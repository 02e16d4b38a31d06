//! Who may ask over the network.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{SettingsError, file, value};

/// Where the web API is unless the file says otherwise: where WalT's users look for it.
const USUAL: ([u8; 4], u16) = ([127, 0, 0, 1], 80);

/// Who may ask over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Whether the web API answers on the nodes' address.
    pub api: bool,
    /// Where it answers besides.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` is what somebody asked for; the usual address may be taken by another program.
    pub is_asked_for: bool,
    /// Tokens of users.
    pub token_file: Option<PathBuf>,
    /// Where the control API answers besides its socket.
    pub control: Option<SocketAddr>,
}

/// What the file says, and the usual where it says nothing.
pub(super) fn check(web: file::Web, control: file::Control) -> Result<Web, SettingsError> {
    let api = web.api.unwrap_or(true);
    let is_asked_for = web.listen.is_some();
    let listen = match web.listen {
        Some(texts) => texts.iter().map(|text| address("web.listen", text)).collect::<Result<_, _>>()?,
        None if api => vec![SocketAddr::from(USUAL)],
        None => Vec::new(),
    };
    if let Some(path) = web.token_file.as_ref().filter(|path| !path.is_absolute()) {
        return Err(value("web.token_file", format!("{} is not an absolute path", path.display())));
    }
    let control = control.listen.map(|text| address("control.listen", &text)).transpose()?;
    if let (Some(address), None) = (control, &web.token_file) {
        let reason = format!("nobody may command the platform at {address}: give users tokens with `web.token_file`");
        return Err(value("control.listen", reason));
    }
    Ok(Web { api, listen, is_asked_for, token_file: web.token_file, control })
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, SettingsError> {
    let address: Option<SocketAddr> = text.parse().ok();
    address
        .filter(|address| address.port() != 0)
        .ok_or_else(|| value(key, format!("{text:?} is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(api: Option<bool>, listen: Option<&[&str]>, token: Option<&str>, control: Option<&str>) -> Option<Web> {
        let listen = listen.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
        let web = file::Web { api, listen, token_file: token.map(PathBuf::from) };
        check(web, file::Control { listen: control.map(str::to_owned) }).ok()
    }

    #[test]
    fn the_network_may_read_unless_it_is_told_otherwise() {
        let web = of(None, None, None, None).unwrap();
        assert!(web.api && web.control.is_none() && !web.is_asked_for);
        assert_eq!(web.listen, ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(of(Some(false), None, None, None).unwrap().listen, []);
        assert_eq!(of(None, Some(&[]), None, None).unwrap().listen, []);
        let web = of(Some(false), Some(&["[::1]:8080"]), Some("/t"), Some("10.0.0.1:12345")).unwrap();
        assert_eq!(web.listen, ["[::1]:8080".parse().unwrap()]);
        assert!(web.is_asked_for && web.control == "10.0.0.1:12345".parse().ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(of(None, Some(&["localhost:80"]), None, None), None);
        assert_eq!(of(None, Some(&["127.0.0.1"]), None, None), None);
        assert_eq!(of(None, Some(&["127.0.0.1:0"]), None, None), None);
        assert_eq!(of(None, None, Some("web.token"), None), None);
        assert_eq!(of(None, None, None, Some("10.0.0.1:12345")), None, "there is no token");
    }
}
