//! A version's name, out of a Build's `tag` or the project's template.

use jiff::{Timestamp, tz::TimeZone};

use crate::model::names::Version;

/// What `{number}` and `{date}` stand for.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub number: i64,
    pub at: Timestamp,
}

/// Why a template makes no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "the project's build.tag.template {template:?} has an unknown or unclosed placeholder; {{number}} and {{date}} are known"
    )]
    Placeholder { template: String },
    #[error(
        "the project's build.tag.template {template:?} makes no version, for example {example:?}: a version takes 1 to 63 of A-Z a-z 0-9 . _ + -, has no '..', and does not end in '.' or '.lock'"
    )]
    NoVersion { template: String, example: String },
}

/// Fills a template; the result is not checked.
pub fn fill(template: &str, grant: Grant) -> String {
    let date = grant.at.to_zoned(TimeZone::UTC).strftime("%Y%m%d").to_string();
    template.replace("{number}", &grant.number.to_string()).replace("{date}", &date)
}

/// Whether a template can make versions at all; asked before a build is queued.
pub fn check(template: &str) -> Result<(), TemplateError> {
    let template_text = || template.to_owned();
    let example = fill(template, Grant { number: 1, at: Timestamp::UNIX_EPOCH });
    if example.contains(['{', '}']) {
        return Err(TemplateError::Placeholder { template: template_text() });
    }
    if example.parse::<Version>().is_err() {
        return Err(TemplateError::NoVersion { template: template_text(), example });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_date_is_the_utc_day_of_the_grant() {
        let at: Timestamp = "2026-11-24T23:59:59Z".parse().unwrap();
        assert_eq!(fill("v{date}-{number}", Grant { number: 7, at }), "v20261124-7");
    }

    #[test]
    fn a_template_that_makes_no_version_is_refused_before_a_build_is_queued() {
        assert!(check("v{date}-{number}").is_ok());
        for bad in ["v{nummer}", "v{number", "{number}..", "{number}.lock", &"{number}".repeat(64)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
