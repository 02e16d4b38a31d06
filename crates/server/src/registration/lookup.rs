//! Nodes and images by the names that people type.

use api::{Problem, ProblemKind};
use net::MacAddr;

use super::Registrar;
use crate::names;

impl Registrar {
    /// The device of this name, mac or ip.
    ///
    /// # Errors
    /// There is none; the message names the nearest one.
    pub fn find_node(&self, text: &str) -> Result<MacAddr, Problem> {
        let mac: Option<MacAddr> = text.parse().ok();
        let ip = text.parse().ok();
        let found = self.devices.values().map(|device| &device.row);
        let found = found.filter(|row| row.name == text || Some(row.mac) == mac || Some(row.ip) == ip);
        if let Some(row) = found.max_by_key(|row| row.last_seen) {
            return Ok(row.mac);
        }
        let names = self.devices.values().map(|device| device.row.name.as_str());
        Err(Problem {
            kind: ProblemKind::UnknownNode,
            message: format!("there is no node {text:?}"),
            hint: Some(match names::nearest(text, names) {
                Some(name) => format!("did you mean {name}?"),
                None => "`walt node show --all` lists all devices".into(),
            }),
        })
    }

    /// Full name of the image on the server that is meant by `text`: a full name, a name of the
    /// usual short form, or the last part of a name that only one image has.
    ///
    /// # Errors
    /// There is none, or several; the message says which.
    pub fn find_image(&self, text: &str) -> Result<String, Problem> {
        let full = names::full_image_name(text).ok();
        if let Some(full) = full.filter(|full| self.images.contains_key(full)) {
            return Ok(full);
        }
        let matches: Vec<_> = self.images.keys().filter(|name| short_forms(name).any(|form| form == text)).collect();
        match matches[..] {
            [name] => Ok(name.clone()),
            [] => {
                let forms = self.images.keys().flat_map(|name| short_forms(name).chain([name.as_str()]));
                Err(Problem {
                    kind: ProblemKind::UnknownImage,
                    message: format!("there is no image {text:?} on the server"),
                    hint: Some(match names::nearest(text, forms) {
                        Some(name) => format!("did you mean {name}?"),
                        None => format!("`walt image show` lists the images, `walt image clone {text}` gets it"),
                    }),
                })
            }
            _ => Err(Problem {
                kind: ProblemKind::UnknownImage,
                message: format!(
                    "{text:?} may be any of {}",
                    matches.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
                ),
                hint: Some("give more of its name".into()),
            }),
        }
    }

    /// As [`find_image`](Self::find_image), but `default` counts as there even if it is not.
    pub(super) fn find_image_or(&self, text: &str, default: &str) -> Result<String, Problem> {
        match names::full_image_name(text) {
            Ok(full) if full == default => Ok(full),
            _ => self.find_image(text),
        }
    }
}

/// `tiny:v1` and `library/tiny:v1` of `docker.io/library/tiny:v1`; without the tag, too, if that is `latest`.
fn short_forms(name: &str) -> impl Iterator<Item = &str> {
    let starts = name.match_indices('/').map(|(at, _)| at + 1);
    starts.flat_map(move |start| [Some(&name[start..]), name[start..].strip_suffix(":latest")]).flatten()
}
