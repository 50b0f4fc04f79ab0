//! Verbs: annotation stamps that ask for an act, echoed in `status.lastHandled`.

use std::{borrow::Cow, collections::BTreeMap};

use sha2::{Digest, Sha256};

/// Another attempt of a Build, or of a Deployment's failed and never-tried hosts.
pub const RETRY: &str = "landfall.dev/retry";
/// Deploy the same version again, on all selected hosts.
pub const REDEPLOY: &str = "landfall.dev/redeploy";
/// Take over hosts that another control plane, or a newer state of this one, acted on. The value is the id that the message shows.
pub const ADOPT: &str = "landfall.dev/adopt";
/// On the Lease `landfall-scopes`: `adopt` for every Deployment that its operators lead. Behind the id may follow `/` and a text, which makes
/// the value a new one.
pub const ADOPT_ALL: &str = "landfall.dev/adopt-all";
/// Update hosts whose drain failed without their drain, in the attempt that the next `retry` begins. The value is the reason.
pub const SKIP_DRAIN: &str = "landfall.dev/skip-drain";
/// Nothing new begins while it stands there. The value is the reason.
pub const PAUSE: &str = "landfall.dev/pause";
/// Let all other hosts follow the canary. The value is `<status.rollout.id>.<attempt>`; `/` and a text behind it
/// make it a new one.
pub const PROMOTE: &str = "landfall.dev/promote";
/// End a rollout where it is: the hosts under way finish, and no other begins. The value is as
/// that of `promote`.
pub const ABORT: &str = "landfall.dev/abort";
/// On a Secret: the server that it is for, `host`, or `host:port` where the port is not the scheme's own.
pub(crate) const GIT_HOST: &str = "landfall.dev/git-host";
/// Look now.
pub const REFRESH: &str = "landfall.dev/refresh";
/// Take hosts of a HostGroup out of service: `HOST`, or several separated by commas; `/` and a text behind them is the reason, and makes
/// the value a new one.
pub const SUSPEND_HOST: &str = "landfall.dev/suspend-host";
/// Put hosts that `suspend-host` took out back into service, named in the same way.
pub const RESUME_HOST: &str = "landfall.dev/resume-host";
/// Forget the key that was seen first on the host (or jump host) that the value names: `HOST`, or `HOST/anything` to ask once more.
pub const FORGET_HOST_KEY: &str = "landfall.dev/forget-host-key";

/// Stamps that were acted on: verb → value.
pub type LastHandled = BTreeMap<String, String>;

/// Characters of a stamp that `lastHandled` keeps.
const KEPT: usize = 253;

/// How a stamp's value stands in `lastHandled`, and what it is compared by: itself, or its beginning with the digest of all of it where it
/// is longer than may be kept. An annotation may have 256 KiB.
fn mark(value: &str) -> Cow<'_, str> {
    if value.chars().nth(KEPT).is_none() {
        return Cow::Borrowed(value);
    }
    let digest = format!("…{:x}", Sha256::digest(value));
    let beginning = value.chars().take(KEPT - digest.chars().count());
    Cow::Owned(beginning.chain(digest.chars()).collect())
}

/// The value of a stamp that is not the one that was handled last: present, and not empty.
pub fn unhandled_value<'a>(
    verb: &str,
    annotations: &'a BTreeMap<String, String>,
    handled: &LastHandled,
) -> Option<&'a str> {
    let value = annotations.get(verb)?.as_str();
    (!value.is_empty() && !is_handled(verb, value, handled)).then_some(value)
}

/// Whether this value of a verb is the one that was handled last.
pub fn is_handled(verb: &str, value: &str, handled: &LastHandled) -> bool {
    handled.get(verb).is_some_and(|handled| *handled == mark(value))
}

/// The value of a stamp that asks for an act: one that is [`unhandled_value`].
///
/// Where nothing was ever observed (`first`, `status.observedGeneration` is -1), a stamp counts as handled: an object restored
/// from a backup restarts nothing.
pub fn asked<'a>(
    verb: &str,
    annotations: &'a BTreeMap<String, String>,
    handled: &LastHandled,
    first: bool,
) -> Option<&'a str> {
    unhandled_value(verb, annotations, handled).filter(|_| !first)
}

/// `lastHandled` after these verbs were seen: what stands in the annotations now. A stamp that disappears is no act, so its last
/// value is kept: a tool that removes it and puts it back asks for nothing.
pub fn handled(verbs: &[&str], annotations: &BTreeMap<String, String>, before: &LastHandled) -> LastHandled {
    let mut after = before.clone();
    for verb in verbs {
        if let Some(value) = annotations.get(*verb).filter(|value| !value.is_empty()) {
            after.insert((*verb).to_owned(), mark(value).into_owned());
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(RETRY.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_stamp_asks_once_and_a_restored_object_asks_nothing() {
        assert_eq!(asked(RETRY, &map("1"), &LastHandled::new(), false), Some("1"));
        assert_eq!(asked(RETRY, &map("1"), &map("1"), false), None);
        assert_eq!(asked(RETRY, &map("1"), &LastHandled::new(), true), None);
        assert_eq!(asked(RETRY, &map("2"), &map("1"), false), Some("2"));
    }

    #[test]
    fn a_stamp_that_went_and_came_back_asks_nothing() {
        let after = handled(&[RETRY], &BTreeMap::new(), &map("1"));
        assert_eq!(asked(RETRY, &map("1"), &after, false), None);
    }
    #[test]
    fn a_stamp_of_any_length_is_handled_once_and_another_of_the_same_beginning_is_another() {
        let long = "\u{1f6a2}".repeat(300);
        let other = format!("{long}!");
        for (value, next) in [(long.as_str(), other.as_str()), (&"x".repeat(253), &"x".repeat(254))] {
            assert_eq!(asked(RETRY, &map(value), &LastHandled::new(), false), Some(value));
            let after = handled(&[RETRY], &map(value), &LastHandled::new());
            assert_eq!(asked(RETRY, &map(value), &after, false), None);
            assert_eq!(asked(RETRY, &map(next), &after, false), Some(next));
            assert_eq!(after[RETRY].chars().count(), 253);
        }
        assert_eq!(handled(&[RETRY], &map("7"), &LastHandled::new()), map("7"));
    }
}
