//! Verbs: annotation stamps that ask for an act, echoed in `status.lastHandled`.

use std::collections::BTreeMap;

/// Another attempt of a Build, or of a Deployment's failed and never-tried hosts.
pub const RETRY: &str = "landfall.dev/retry";
/// Deploy the same version again, on all selected hosts.
pub const REDEPLOY: &str = "landfall.dev/redeploy";
/// Take over hosts that another control plane, or a newer state of this one, acted on. The value is the id that the message shows.
pub const ADOPT: &str = "landfall.dev/adopt";
/// On a Secret: the server that it is for, `host`, or `host:port` where the port is not the scheme's own.
pub const GIT_HOST: &str = "landfall.dev/git-host";
/// Look now.
pub const REFRESH: &str = "landfall.dev/refresh";

/// Forget the key that was seen first on the host (or jump host) that the value names: `HOST`, or `HOST/anything` to ask once more.
pub const FORGET_HOST_KEY: &str = "landfall.dev/forget-host-key";

/// Stamps that were acted on: verb → value.
pub type LastHandled = BTreeMap<String, String>;

/// The value of a stamp that asks for an act: present, not empty, and not the one that was handled last.
///
/// Where nothing was ever observed (`first`, `status.observedGeneration` is -1), a stamp counts as handled: an object restored
/// from a backup restarts nothing.
pub fn asked<'a>(
    verb: &str,
    annotations: &'a BTreeMap<String, String>,
    handled: &LastHandled,
    first: bool,
) -> Option<&'a str> {
    let value = annotations.get(verb)?.as_str();
    let news = !value.is_empty() && handled.get(verb).map(String::as_str) != Some(value);
    (news && !first).then_some(value)
}

/// `lastHandled` after these verbs were seen: what stands in the annotations now. A stamp that disappears is no act, so its last
/// value is kept: a tool that removes it and puts it back asks for nothing.
pub fn handled(verbs: &[&str], annotations: &BTreeMap<String, String>, before: &LastHandled) -> LastHandled {
    let mut after = before.clone();
    for verb in verbs {
        if let Some(value) = annotations.get(*verb).filter(|value| !value.is_empty()) {
            after.insert((*verb).to_owned(), value.chars().take(253).collect());
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
}
