//! Moments that users gave names to.

use std::collections::BTreeMap;

use crate::registry::CheckpointRow;

/// Checkpoints that a user may have: each is a line in lists that people read.
const MAX_OF_USER: usize = 1000;

/// All checkpoints of all users.
#[derive(Debug, Default)]
pub struct Checkpoints {
    by_user: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Why there is no such checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The name would not be told apart from an offset, or is not one word.
    #[error("{0:?} is not a name for a checkpoint: letters, digits, `-`, `_` and `.`, at most 64, the first a letter")]
    BadName(String),
    /// A range would not be told from it.
    #[error("{0:?} means a range of log lines already, it can not be a checkpoint")]
    Keyword(String),
    /// It is there.
    #[error("you have a checkpoint {0:?} already")]
    Exists(String),
    /// There are many.
    #[error("you have {MAX_OF_USER} checkpoints already")]
    TooMany,
}

impl Checkpoints {
    /// As they were kept.
    pub fn new(rows: impl IntoIterator<Item = CheckpointRow>) -> Self {
        let mut checkpoints = Self::default();
        for CheckpointRow { user, name, at_us } in rows {
            checkpoints.by_user.entry(user).or_default().insert(name, at_us);
        }
        checkpoints
    }

    /// Adds one; gives back what is to be kept.
    ///
    /// # Errors
    /// The name can not be had.
    pub fn add(&mut self, user: &str, name: &str, at_us: i64) -> Result<CheckpointRow, CheckpointError> {
        let is_name = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name {
            return Err(CheckpointError::BadName(name.to_owned()));
        }
        if ["full", "none"].contains(&name) {
            return Err(CheckpointError::Keyword(name.to_owned()));
        }
        let own = self.by_user.entry(user.to_owned()).or_default();
        if own.contains_key(name) {
            return Err(CheckpointError::Exists(name.to_owned()));
        }
        if own.len() >= MAX_OF_USER {
            return Err(CheckpointError::TooMany);
        }
        own.insert(name.to_owned(), at_us);
        Ok(CheckpointRow { user: user.to_owned(), name: name.to_owned(), at_us })
    }

    /// Removes one; false if it was not there.
    pub fn remove(&mut self, user: &str, name: &str) -> bool {
        self.by_user.get_mut(user).is_some_and(|own| own.remove(name).is_some())
    }

    /// When one of the user's is.
    pub fn get(&self, user: &str, name: &str) -> Option<i64> {
        self.by_user.get(user)?.get(name).copied()
    }

    /// The user's, the oldest first.
    pub fn of(&self, user: &str) -> Vec<(String, i64)> {
        let own = self.by_user.get(user).into_iter().flatten();
        let mut all: Vec<_> = own.map(|(name, at_us)| (name.clone(), *at_us)).collect();
        all.sort_by_key(|(_, at_us)| *at_us);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_names_of_their_own() {
        let mut checkpoints = Checkpoints::new([CheckpointRow { user: "ada".into(), name: "begun".into(), at_us: 5 }]);
        assert_eq!(checkpoints.add("ada", "begun", 7), Err(CheckpointError::Exists("begun".into())));
        assert!(checkpoints.add("bob", "begun", 7).is_ok() && checkpoints.add("ada", "before", 1).is_ok());
        assert_eq!((checkpoints.get("ada", "begun"), checkpoints.get("bob", "begun")), (Some(5), Some(7)));
        assert_eq!(checkpoints.of("ada"), [("before".into(), 1), ("begun".into(), 5)]);
        assert!(checkpoints.remove("ada", "begun") && !checkpoints.remove("ada", "begun"));
        for bad in ["", "-5m", "a b", "a:b", "5m", &"x".repeat(65)] {
            assert_eq!(checkpoints.add("ada", bad, 1), Err(CheckpointError::BadName(bad.into())), "{bad}");
        }
        assert_eq!(checkpoints.add("ada", "full", 1), Err(CheckpointError::Keyword("full".into())));
    }
}
