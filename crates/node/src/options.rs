//! `--name value` options of the programs that walt-init starts.

use std::ffi::OsString;
use std::str::FromStr;

use crate::failure::Failure;

/// The arguments of one program, taken apart by name.
#[derive(Debug)]
pub(crate) struct Options(Vec<String>);

impl Options {
    pub(crate) fn new(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let text = |a: OsString| a.into_string().map_err(|a| Failure::new(format!("argument {a:?} is not UTF-8")));
        arguments.into_iter().map(text).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `name` is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let position = self.0.iter().position(|argument| argument == name);
        position.map(|i| self.0.remove(i)).is_some()
    }

    /// Value of `name`, `None` if it is not there.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(position) = self.0.iter().position(|argument| argument == name) else { return Ok(None) };
        self.0.remove(position);
        let text = if position < self.0.len() { self.0.remove(position) } else { String::new() };
        text.parse().map(Some).map_err(|_| Failure::new(format!("{name} {text:?} makes no sense")))
    }

    /// Value of `name`, which must be there.
    pub(crate) fn required<T: FromStr>(&mut self, name: &str) -> Result<T, Failure> {
        self.value(name)?.ok_or_else(|| Failure::new(format!("{name} is missing")))
    }

    /// Refuses what nobody asked for.
    pub(crate) fn end(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::new(format!("unknown arguments {:?}", self.0))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_by_name_and_nothing_is_left_over() {
        let make = |text: &str| Options::new(text.split_whitespace().map(OsString::from).collect()).unwrap();
        let mut options = make("--a 5 --flag --b x");
        assert_eq!(options.required::<u32>("--a"), Ok(5));
        assert!(options.flag("--flag") && !options.flag("--flag"));
        assert_eq!(options.value::<String>("--c"), Ok(None));
        assert!(options.end().is_err());
        assert!(make("--a").required::<u32>("--a").is_err());
        assert!(make("--a five").required::<u32>("--a").is_err());
        assert!(make("").required::<u32>("--a").is_err());
    }
}
