//! Query parameters of a request. Unknown ones are refused: nothing is accepted and ignored.

use std::collections::BTreeMap;

use super::api_error::ApiError;

/// Of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    /// Go on until it is over.
    pub follow: bool,
    /// First byte to send, from 0.
    pub since: Option<u64>,
    /// The last lines only.
    pub tail: Option<u64>,
    /// Default: the last one. Of a Build a number from 1, of a Deployment `<rollout>.<attempt>`.
    pub attempt: Option<String>,
    /// Each line with the time at which it arrived.
    pub timestamps: bool,
    /// Of a Deployment: this host's part.
    pub host: Option<String>,
}

/// The parameters, of which only these may be there.
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut read = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(ApiError::bad_request(format!(
                    "there is no parameter {name:?}; there are: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )));
            }
            read.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self(read))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("{name} takes a whole number that is not negative, not {text:?}"))
        })
    }

    /// `?name` alone means yes.
    pub fn yes(&self, name: &str) -> Result<bool, ApiError> {
        match self.0.get(name).map(String::as_str) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(text) => Err(ApiError::bad_request(format!("{name} takes true or false, not {text:?}"))),
        }
    }
}

impl LogQuery {
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let parameters = Parameters::read(query, known)?;
        Ok(Self {
            follow: parameters.yes("follow")?,
            since: parameters.number("since")?,
            tail: parameters.number("tail")?,
            attempt: parameters.text("attempt").map(str::to_owned),
            timestamps: parameters.yes("timestamps")?,
            host: parameters.text("host").map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_or_no_number_is_refused_by_name() {
        let known = ["follow", "since", "tail"];
        let read = LogQuery::read(Some("follow&since=12"), &known).unwrap();
        assert!(read.follow && read.since == Some(12) && read.tail.is_none());
        for (bad, word) in
            [("folow=true", "folow"), ("since=-1", "since"), ("follow=maybe", "maybe"), ("host=x", "host")]
        {
            let refused = LogQuery::read(Some(bad), &known).unwrap_err();
            assert!(refused.message.contains(word) && refused.code == 400, "{refused:?}");
        }
    }
}
