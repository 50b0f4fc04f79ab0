//! What of the executor's folders, the records of builds, the pinned commits and the mirrors nobody needs any more. What can't be told for
//! sure is kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// Whoever fetches pins what it found well before.
const REST: SignedDuration = SignedDuration::from_hours(1);

/// Everything that the decision needs. What lies around must be listed before the Builds and Projects are: then whatever lies there had its
/// Build or Project by the time of the list, or has none.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The one namespace whose Builds and Projects are known; `None`: those of all.
    pub scope: Option<String>,
    /// The Builds that exist: uid → whether it is published.
    pub builds: BTreeMap<String, bool>,
    /// Builds with a folder: uid → the namespace, where the store knows it.
    pub folders: BTreeMap<String, Option<String>>,
    /// Builds with records in the store, in the same way.
    pub records: BTreeMap<String, Option<String>>,
    pub mirrors: Vec<Mirror>,
    /// Names of the mirrors of the Projects that exist.
    pub sources: BTreeSet<String>,
}

/// The mirror of one repository for one namespace, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub name: String,
    /// Where it is known.
    pub namespace: Option<String>,
    /// Names of pins: `<namespace>.<uid>`.
    pub pins: Vec<String>,
    /// When it was fetched last, as far as is known.
    pub touched: Timestamp,
    /// No mirror, but what a crash left of one.
    pub leftover: bool,
}

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Uids of Builds that are gone, whose folder is not.
    pub folders: Vec<String>,
    /// The same for records; they go after the folder.
    pub records: Vec<String>,
    pub pins: Vec<String>,
    /// As they will be when those pins are gone.
    pub mirrors: Vec<Mirror>,
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Garbage {
    let ours = |namespace: Option<&str>| observed.scope.is_none() || namespace == observed.scope.as_deref();
    let gone = |of: &BTreeMap<String, Option<String>>| -> Vec<String> {
        let gone = of.iter().filter(|(uid, space)| !observed.builds.contains_key(*uid) && ours(space.as_deref()));
        gone.map(|(uid, _)| uid.clone()).collect()
    };
    let may_go = |pin: &&String| {
        let (namespace, uid) = pin.split_once('.').map_or((None, pin.as_str()), |(space, uid)| (Some(space), uid));
        // A failed Build may be tried again, and needs its commit for that.
        let needed = observed.builds.get(uid).is_some_and(|published| !published);
        !needed && ours(namespace)
    };
    let pins: BTreeSet<&String> = observed.mirrors.iter().flat_map(|mirror| &mirror.pins).filter(may_go).collect();
    let unneeded = |mirror: &&Mirror| {
        let rested = now.duration_since(mirror.touched) >= REST;
        let named = observed.sources.contains(&mirror.name) || mirror.pins.iter().any(|pin| !pins.contains(pin));
        rested && (mirror.leftover || (!named && ours(mirror.namespace.as_deref())))
    };
    let mirrors = observed.mirrors.iter().filter(unneeded).map(|mirror| Mirror { pins: vec![], ..mirror.clone() });
    Garbage {
        folders: gone(&observed.folders),
        records: gone(&observed.records),
        mirrors: mirrors.collect(),
        pins: pins.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(name: &str, namespace: Option<&str>, pins: &[&str]) -> Mirror {
        let pins = pins.iter().map(|pin| (*pin).to_owned()).collect();
        let namespace = namespace.map(str::to_owned);
        Mirror { name: name.to_owned(), namespace, pins, touched: Timestamp::UNIX_EPOCH, leftover: false }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(3600).unwrap()
    }

    fn observed(scope: Option<&str>) -> Observed {
        let of = |namespace: &str| Some(namespace.to_owned());
        let shop = Some("shop");
        Observed {
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
            mirrors: vec![
                mirror("named", shop, &["bank.x", "old", "shop.failed", "shop.gone", "shop.published"]),
                mirror("pinned", shop, &["shop.failed"]),
                mirror("unpinned", shop, &["shop.gone", "shop.published"]),
                mirror("banks", Some("bank"), &[]),
                mirror("old", None, &[]),
                Mirror { touched: Timestamp::from_second(1).unwrap(), ..mirror("fresh", shop, &[]) },
                Mirror { leftover: true, ..mirror("left", None, &[]) },
                Mirror { leftover: true, touched: now(), ..mirror("in the making", None, &[]) },
            ],
            sources: ["named".to_owned()].into(),
        }
    }

    fn names(litter: &Garbage) -> Vec<&str> {
        litter.mirrors.iter().map(|mirror| mirror.name.as_str()).collect()
    }

    #[test]
    fn with_one_namespace_only_what_is_surely_of_it_goes() {
        let litter = plan(&observed(Some("shop")), now());
        assert_eq!(litter.folders, ["gone"]);
        assert_eq!(litter.records, ["old"]);
        assert_eq!(litter.pins, ["shop.gone", "shop.published"]);
        assert_eq!(names(&litter), ["unpinned", "left"]);
    }

    #[test]
    fn with_all_namespaces_whatever_has_no_build_goes_and_a_failed_build_keeps_its_pin_and_its_mirror() {
        let litter = plan(&observed(None), now());
        assert_eq!(litter.folders, ["gone", "other", "unknown"]);
        assert_eq!(litter.records, ["old", "strange"]);
        assert_eq!(litter.pins, ["bank.x", "old", "shop.gone", "shop.published"]);
        assert_eq!(names(&litter), ["unpinned", "banks", "old", "left"]);
    }
}
