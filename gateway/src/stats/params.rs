//! The parameters of a question: each known, each once, each of its kind.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::StatsError;
use crate::auth;

/// What every question about events may be narrowed by.
pub const FILTERS: [&str; 5] = ["type", "userId", "objectType", "objectId", "source"];

/// Those given, by name; an empty one counts as absent.
#[derive(Debug)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// A parameter that is misspelt would be left out silently and answer another question: it is
    /// refused.
    pub fn read(query: &str, known: &[&[&str]]) -> Result<Self, StatsError> {
        let mut given = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            if auth::QUERY_CREDENTIALS.contains(&&*name) || value.is_empty() {
                continue;
            }
            if !known.iter().any(|names| names.contains(&&*name)) {
                let names = known.concat().join("`, `");
                return Err(unusable(format!("{name:?} means nothing here; `{names}` do")));
            }
            if value.contains('\0') {
                return Err(unusable(format!(
                    "`{name}` has a null character, which nothing stored has"
                )));
            }
            if given.insert(name.clone(), value).is_some() {
                return Err(unusable(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(given))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn owned(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// A number from 1 to `max`.
    pub fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, StatsError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.parse() {
            Ok(count) if (1..=max).contains(&count) => Ok(count),
            _ => Err(unusable(format!("`{name}` is {text:?}; it can be 1 to {max}"))),
        }
    }

    /// One of a few words.
    pub fn one_of<T: Copy + Named>(&self, name: &str, default: T) -> Result<T, StatsError> {
        Ok(self.maybe_one_of(name)?.unwrap_or(default))
    }

    pub fn maybe_one_of<T: Copy + Named>(&self, name: &str) -> Result<Option<T>, StatsError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = T::ALL.iter().find(|(word, _)| *word == text);
        match found {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<_> = T::ALL.iter().map(|(word, _)| *word).collect();
                let words = words.join("`, `");
                Err(unusable(format!("`{name}` is {text:?}; it can be `{words}`")))
            }
        }
    }

    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, StatsError> {
        let parse = |text: &str| {
            let parsed = text.parse::<T>();
            parsed.map_err(|error| unusable(format!("`{name}` is {text:?}: {error}")))
        };
        self.text(name).map(parse).transpose()
    }
}

/// A choice among words.
pub trait Named: Sized + 'static {
    const ALL: &'static [(&'static str, Self)];
}

pub fn unusable(detail: impl Into<String>) -> StatsError {
    StatsError::Unusable(detail.into())
}

/// Which events count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub event_type: Option<String>,
    pub user_id: Option<String>,
    pub object_type: Option<String>,
    pub object_id: Option<String>,
    pub source: Option<String>,
}

impl Filter {
    pub fn read(params: &Params) -> Result<Self, StatsError> {
        let filter = Self {
            event_type: params.owned("type"),
            user_id: params.owned("userId"),
            object_type: params.owned("objectType"),
            object_id: params.owned("objectId"),
            source: params.owned("source"),
        };
        if filter.object_id.is_some() && filter.object_type.is_none() {
            return Err(unusable("`objectId` needs `objectType`: ids are told apart by it"));
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_or_said_twice_is_refused() {
        let known: &[&[&str]] = &[&FILTERS, &["limit"]];
        assert!(Params::read("typ=like", known).is_err());
        assert!(Params::read("type=like&type=view", known).is_err());
        assert!(Params::read("type=%00", known).is_err());
        let params = Params::read("api_key=x&type=&limit=7&source=a%26b", known).unwrap();
        assert_eq!((params.text("type"), params.text("source")), (None, Some("a&b")));
        assert_eq!(params.count("limit", 3, 10), Ok(7));
        assert!(params.count("limit", 3, 6).is_err());
    }

    #[test]
    fn an_object_has_a_type_and_an_id() {
        let filter = |query| Filter::read(&Params::read(query, &[&FILTERS]).unwrap());
        assert!(filter("objectId=1").is_err());
        assert!(filter("objectType=post&objectId=1").is_ok());
    }
}
