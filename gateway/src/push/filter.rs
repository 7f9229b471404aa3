//! Which messages of a stream one socket is sent, and from where on, by its query.

use super::stream::{Facets, Stream};
use crate::auth;
use crate::http::ApiError;

/// A message passes when every wanted facet has the wanted value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<(usize, Box<str>)>);

impl Filter {
    pub fn passes(&self, facets: &Facets) -> bool {
        self.0.iter().all(|(at, wanted)| {
            facets.get(*at).is_some_and(|facet| facet.as_deref() == Some(wanted))
        })
    }

    /// Whatever else is asked for: only what belongs to this user.
    pub fn limit_to(&mut self, stream: Stream, user_id: &str) {
        self.0.push((stream.owner(), user_id.into()));
    }
}

/// What a socket asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub filter: Filter,
    pub cursor: Option<String>,
}

/// The last message an `EventSource` has seen, for those that cannot set a header.
const CURSORS: [&str; 3] = ["cursor", "lastEventId", "last_event_id"];

/// Reads the query of a socket. A filter that is misspelt would show everything: it is refused.
pub fn wanted(stream: Stream, query: &str) -> Result<Wanted, ApiError> {
    let mut wanted = Wanted::default();
    for (name, value) in pairs(query) {
        let filter = stream.filters().iter().position(|it| *it == name);
        match filter {
            // An empty one counts as absent, as everywhere.
            Some(_) if value.is_empty() => {}
            Some(at) => wanted.filter.0.push((at, value.into())),
            None if CURSORS.contains(&&*name) => {
                wanted.cursor = Some(value).filter(|it| !it.is_empty());
            }
            None if auth::QUERY_CREDENTIALS.contains(&&*name) || name == "verdict" => {}
            None => return Err(unknown(stream, &name)),
        }
    }
    Ok(wanted)
}

/// `verdict` chooses between the two streams of events.
pub fn verdict(query: &str) -> Result<Stream, ApiError> {
    let verdict = pairs(query).filter(|(name, _)| name == "verdict").last();
    match verdict.as_ref().map(|(_, value)| value.as_str()) {
        None | Some("accepted") => Ok(Stream::Events),
        Some("rejected") => Ok(Stream::Rejected),
        Some(other) => Err(ApiError::UnusableParameter {
            detail: format!(
                "`verdict` is {other:?}; it can be `accepted` (the default) or `rejected`"
            ),
        }),
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned()
}

fn unknown(stream: Stream, name: &str) -> ApiError {
    let filters = stream.filters().join("`, `");
    ApiError::UnusableParameter {
        detail: format!(
            "this stream has no parameter {name:?}; `{filters}` choose among its messages, and \
             `cursor` resumes it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facets(values: [&str; 5]) -> Facets {
        values.map(|value| (!value.is_empty()).then(|| value.into()))
    }

    #[test]
    fn a_message_passes_when_all_that_is_asked_for_is_so() {
        let query = "type=like&source=&userId=a%20b&api_key=k&cursor=c&verdict=accepted";
        let wanted = wanted(Stream::Events, query).unwrap();
        assert_eq!(wanted.cursor.as_deref(), Some("c"));
        assert!(wanted.filter.passes(&facets(["like", "a b", "post", "1", "s"])));
        assert!(!wanted.filter.passes(&facets(["view", "a b", "post", "1", "s"])));
        assert!(!wanted.filter.passes(&facets(["like", "", "post", "1", "s"])));
    }

    #[test]
    fn no_filter_widens_what_belongs_to_a_user() {
        let mut filter = wanted(Stream::Notifications, "userId=other").unwrap().filter;
        filter.limit_to(Stream::Notifications, "me");
        assert!(!filter.passes(&facets(["spike", "info", "other", "", ""])));
        assert!(!filter.passes(&facets(["spike", "info", "me", "", ""])));
        let mut filter = Filter::default();
        filter.limit_to(Stream::Notifications, "me");
        assert!(filter.passes(&facets(["spike", "info", "me", "", ""])));
        assert!(!filter.passes(&facets(["spike", "info", "", "", ""])));
        assert!(!filter.passes(&facets(["spike", "me", "other", "me", "me"])));
    }

    #[test]
    fn a_misspelt_filter_is_refused() {
        assert!(wanted(Stream::Events, "user=1").is_err());
        assert!(wanted(Stream::Rejected, "type=like").is_err());
        assert!(wanted(Stream::Events, "").unwrap().cursor.is_none());
        assert!(wanted(Stream::Events, "cursor=").unwrap().cursor.is_none());
        assert!(verdict("verdict=maybe").is_err());
        assert_eq!(verdict("verdict=rejected").unwrap(), Stream::Rejected);
        assert_eq!(verdict("type=x").unwrap(), Stream::Events);
    }
}
