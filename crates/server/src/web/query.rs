//! Filters in the query of a request.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::{Problem, ProblemKind};

use crate::control::problem;
use crate::names;

/// What a query says, by name.
#[derive(Debug)]
pub(super) struct Filters(BTreeMap<String, String>);

impl Filters {
    /// Takes a query, if all of its names are `known`.
    ///
    /// # Errors
    /// One is not, or is there twice.
    pub(super) fn new(query: Vec<(String, String)>, known: &[&str]) -> Result<Self, Problem> {
        let mut filters = BTreeMap::new();
        for (name, value) in query {
            if !known.contains(&name.as_str()) {
                let hint = match names::nearest(&name, known.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("there are {}", known.join(", ")),
                };
                return Err(problem(ProblemKind::BadRequest, format!("there is no filter {name:?}"), Some(&hint)));
            }
            if filters.contains_key(&name) {
                let message = format!("the filter {name} is there twice");
                return Err(problem(ProblemKind::BadRequest, message, None));
            }
            filters.insert(name, value);
        }
        Ok(Self(filters))
    }

    /// The value of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of this name, as `parse` reads it.
    ///
    /// # Errors
    /// It can not be read; `expected` says what could.
    pub(super) fn value<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text)
            .map(Some)
            .ok_or_else(|| problem(ProblemKind::BadRequest, format!("{name}={text:?} is not {expected}"), None))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.value(name, "true or false", |text| text.to_ascii_lowercase().parse().ok())
    }
}

/// Address of a device; nothing until it has had one.
pub(super) fn shown_ip(ip: Ipv4Addr) -> String {
    if ip.is_unspecified() { String::new() } else { ip.to_string() }
}

/// Name of an image as the users of the platform know it: without `docker.io/`.
pub(super) fn shown_image(full_name: &str) -> String {
    full_name.strip_prefix("docker.io/").unwrap_or(full_name).to_owned()
}

/// Full name of the image that a filter means; one that is no name is nobody's.
pub(super) fn meant_image(text: &str) -> String {
    names::full_image_name(text).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(query: &[(&str, &str)]) -> Result<Filters, String> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Filters::new(query, &["model", "booted"]).map_err(|problem| format!("{problem} {:?}", problem.hint))
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let all = filters(&[("model", "rpi-b"), ("booted", "True")]).unwrap();
        assert_eq!((all.text("model"), all.boolean("booted").unwrap()), (Some("rpi-b"), Some(true)));
        assert_eq!(filters(&[]).unwrap().boolean("booted").unwrap(), None);
        assert!(filters(&[("booted", "yes")]).unwrap().boolean("booted").is_err());
        assert!(filters(&[("modle", "x")]).unwrap_err().contains("did you mean model?"));
        assert!(filters(&[("zzz", "x")]).unwrap_err().contains("there are model, booted"));
        assert!(filters(&[("model", "x"), ("model", "y")]).unwrap_err().contains("twice"));
    }

    #[test]
    fn images_are_called_as_users_do() {
        assert_eq!(shown_image("docker.io/ada/tiny:v1"), "ada/tiny:v1");
        assert_eq!(shown_image("localhost:5000/tiny:v1"), "localhost:5000/tiny:v1");
        for text in ["ada/tiny", "ada/tiny:latest", "docker.io/ada/tiny:latest"] {
            assert_eq!(meant_image(text), "docker.io/ada/tiny:latest");
        }
    }
}
