//! What of the executor's folders, the records of builds and the pinned commits nobody needs any more. What can't be told for sure is kept.

use std::collections::BTreeMap;

/// Everything that the decision needs. What lies around must be listed before the Builds are: then whatever lies there had its Build by
/// the time of the list, or has none.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The one namespace whose Builds are known; `None`: those of all.
    pub scope: Option<String>,
    /// The Builds that exist: uid → whether it is published.
    pub builds: BTreeMap<String, bool>,
    /// Builds with a folder: uid → the namespace, where the store knows it.
    pub folders: BTreeMap<String, Option<String>>,
    /// Builds with records in the store, in the same way.
    pub records: BTreeMap<String, Option<String>>,
    /// Names of pins: `<namespace>.<uid>`.
    pub pins: Vec<String>,
}

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Litter {
    /// Uids of Builds that are gone, whose folder is not.
    pub folders: Vec<String>,
    /// The same for records; they go after the folder.
    pub records: Vec<String>,
    pub pins: Vec<String>,
}

/// Decides.
pub fn plan(seen: &Seen) -> Litter {
    let ours = |namespace: Option<&str>| seen.scope.is_none() || namespace == seen.scope.as_deref();
    let gone = |of: &BTreeMap<String, Option<String>>| -> Vec<String> {
        let gone = of.iter().filter(|(uid, space)| !seen.builds.contains_key(*uid) && ours(space.as_deref()));
        gone.map(|(uid, _)| uid.clone()).collect()
    };
    let pins = seen.pins.iter().filter(|pin| {
        let (namespace, uid) = pin.split_once('.').map_or((None, pin.as_str()), |(space, uid)| (Some(space), uid));
        // A failed Build may be tried again, and needs its commit for that.
        let needed = seen.builds.get(uid).is_some_and(|published| !published);
        !needed && ours(namespace)
    });
    Litter { folders: gone(&seen.folders), records: gone(&seen.records), pins: pins.cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(scope: Option<&str>) -> Seen {
        let of = |namespace: &str| Some(namespace.to_owned());
        Seen {
            scope: scope.map(str::to_owned),
            records: [("failed".to_owned(), of("shop")), ("old".to_owned(), of("shop")), ("strange".to_owned(), None)]
                .into(),
            builds: [("failed".to_owned(), false), ("published".to_owned(), true)].into(),
            folders: [
                ("failed".to_owned(), of("shop")),
                ("gone".to_owned(), of("shop")),
                ("other".to_owned(), of("bank")),
                ("unknown".to_owned(), None),
            ]
            .into(),
            pins: ["bank.x", "old", "shop.failed", "shop.gone", "shop.published"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn with_one_namespace_only_what_is_surely_of_it_goes() {
        let litter = plan(&seen(Some("shop")));
        assert_eq!(litter.folders, ["gone"]);
        assert_eq!(litter.records, ["old"]);
        assert_eq!(litter.pins, ["shop.gone", "shop.published"]);
    }

    #[test]
    fn with_all_namespaces_whatever_has_no_build_goes_and_a_failed_build_keeps_its_pin() {
        let litter = plan(&seen(None));
        assert_eq!(litter.folders, ["gone", "other", "unknown"]);
        assert_eq!(litter.records, ["old", "strange"]);
        assert_eq!(litter.pins, ["bank.x", "old", "shop.gone", "shop.published"]);
    }
}
