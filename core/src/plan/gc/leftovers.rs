//! What Builds and Projects left that are deleted: folders, records, pins, mirrors, caches, records of pushes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Collectable;
use crate::model::mirror::Mirror;

/// Whoever fetches pins what it found well before.
const MIRROR_REST: SignedDuration = SignedDuration::from_hours(1);

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
    /// Uids of the Projects that exist, also of those that can't be read.
    pub projects: BTreeSet<String>,
    /// Caches: namespace and uid of their Project.
    pub caches: BTreeSet<(String, String)>,
    /// Uids of Projects with records of pushes.
    pub push_records: BTreeSet<String>,
}

/// One thing that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Garbage {
    BuildFolder {
        uid: String,
    },
    BuildRecords {
        uid: String,
    },
    Pin {
        name: String,
    },
    /// As it will be when its pins are gone.
    Mirror(Mirror),
    /// All caches of a namespace but those of these Projects.
    Caches {
        namespace: String,
        projects: BTreeSet<String>,
    },
    PushRecords {
        project: String,
    },
}

impl Garbage {
    pub fn kind(&self) -> Collectable {
        match self {
            Self::BuildFolder { .. } => Collectable::BuildFolder,
            Self::BuildRecords { .. } => Collectable::BuildRecords,
            Self::Pin { .. } => Collectable::Pin,
            Self::Mirror(_) => Collectable::Mirror,
            Self::Caches { .. } => Collectable::Caches,
            Self::PushRecords { .. } => Collectable::PushRecords,
        }
    }
}

/// What may go, in this order: a Build's records go after its folder, for they say whose it is; a mirror goes after its pins.
pub fn plan(observed: &Observed, now: Timestamp) -> Vec<Garbage> {
    let mut garbage: Vec<Garbage> =
        orphans(observed, &observed.folders).map(|uid| Garbage::BuildFolder { uid }).collect();
    garbage.extend(orphans(observed, &observed.records).map(|uid| Garbage::BuildRecords { uid }));
    let pins = unneeded_pins(observed);
    garbage.extend(pins.iter().map(|pin| Garbage::Pin { name: (*pin).clone() }));
    garbage.extend(unneeded_mirrors(observed, &pins, now).map(Garbage::Mirror));
    garbage.extend(caches(&observed.caches, &observed.projects, observed.scope.as_deref()));
    if observed.scope.is_none() {
        // A record of a push says the Project's uid and not its namespace: whoever does not see all Projects can't tell.
        let gone = observed.push_records.difference(&observed.projects);
        garbage.extend(gone.map(|project| Garbage::PushRecords { project: project.clone() }));
    }
    garbage
}

/// What this Project left, which is deleted. `projects`: those that exist in its namespace.
pub fn of_project(
    uid: &str,
    namespace: &str,
    cached: &BTreeSet<(String, String)>,
    projects: &BTreeSet<String>,
) -> Vec<Garbage> {
    let mut garbage = caches(cached, projects, Some(namespace));
    garbage.push(Garbage::PushRecords { project: uid.to_owned() });
    garbage
}

/// Whether things of this namespace (`None`: unknown) are this operator's to collect.
fn in_scope(observed: &Observed, namespace: Option<&str>) -> bool {
    observed.scope.is_none() || namespace == observed.scope.as_deref()
}

/// Uids of those whose Build is gone.
fn orphans<'a>(
    observed: &'a Observed,
    things: &'a BTreeMap<String, Option<String>>,
) -> impl Iterator<Item = String> + 'a {
    things
        .iter()
        .filter(|(uid, namespace)| !observed.builds.contains_key(*uid) && in_scope(observed, namespace.as_deref()))
        .map(|(uid, _)| uid.clone())
}

fn unneeded_pins(observed: &Observed) -> BTreeSet<&String> {
    let may_go = |pin: &&String| {
        let (namespace, uid) = pin.split_once('.').map_or((None, pin.as_str()), |(space, uid)| (Some(space), uid));
        // A failed Build may be tried again, and needs its commit for that.
        let needed = observed.builds.get(uid).is_some_and(|published| !published);
        !needed && in_scope(observed, namespace)
    };
    observed.mirrors.iter().flat_map(|mirror| &mirror.pins).filter(may_go).collect()
}

fn unneeded_mirrors<'a>(
    observed: &'a Observed,
    pins: &'a BTreeSet<&String>,
    now: Timestamp,
) -> impl Iterator<Item = Mirror> + 'a {
    let unneeded = move |mirror: &&Mirror| {
        let rested = now.duration_since(mirror.touched) >= MIRROR_REST;
        let named = observed.sources.contains(&mirror.name) || mirror.pins.iter().any(|pin| !pins.contains(pin));
        rested && (mirror.leftover || (!named && in_scope(observed, mirror.namespace.as_deref())))
    };
    observed.mirrors.iter().filter(unneeded).map(|mirror| Mirror { pins: vec![], ..mirror.clone() })
}

/// Of each namespace that has caches of a Project that is gone.
fn caches(caches: &BTreeSet<(String, String)>, projects: &BTreeSet<String>, scope: Option<&str>) -> Vec<Garbage> {
    let gone = caches
        .iter()
        .filter(|(namespace, uid)| !projects.contains(uid) && scope.is_none_or(|scope| scope == namespace));
    let namespaces: BTreeSet<&String> = gone.map(|(namespace, _)| namespace).collect();
    let all_but = |namespace: &String| Garbage::Caches { namespace: namespace.clone(), projects: projects.clone() };
    namespaces.into_iter().map(all_but).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::gc::Collector;

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
            projects: ["shop-uid".to_owned()].into(),
            caches: [("shop", "shop-uid"), ("shop", "old-uid"), ("bank", "bank-uid")]
                .map(|(namespace, uid)| (namespace.to_owned(), uid.to_owned()))
                .into(),
            push_records: ["shop-uid".to_owned(), "old-uid".to_owned()].into(),
        }
    }

    /// Things of a kind, by what names them.
    fn names(garbage: &[Garbage], kind: Collectable) -> Vec<&str> {
        let of_kind = garbage.iter().filter(|one| one.kind() == kind);
        of_kind
            .map(|one| match one {
                Garbage::BuildFolder { uid } | Garbage::BuildRecords { uid } => uid.as_str(),
                Garbage::Pin { name } => name.as_str(),
                Garbage::Mirror(mirror) => mirror.name.as_str(),
                Garbage::Caches { namespace, .. } => namespace.as_str(),
                Garbage::PushRecords { project } => project.as_str(),
            })
            .collect()
    }

    #[test]
    fn with_one_namespace_only_what_is_surely_of_it_goes() {
        let garbage = plan(&observed(Some("shop")), now());
        assert_eq!(names(&garbage, Collectable::BuildFolder), ["gone"]);
        assert_eq!(names(&garbage, Collectable::BuildRecords), ["old"]);
        assert_eq!(names(&garbage, Collectable::Pin), ["shop.gone", "shop.published"]);
        assert_eq!(names(&garbage, Collectable::Mirror), ["unpinned", "left"]);
        assert_eq!(names(&garbage, Collectable::Caches), ["shop"]);
        assert_eq!(names(&garbage, Collectable::PushRecords), [] as [&str; 0]);
    }

    #[test]
    fn with_all_namespaces_what_has_no_build_goes_and_a_failed_one_keeps_its_pin() {
        let garbage = plan(&observed(None), now());
        assert_eq!(names(&garbage, Collectable::BuildFolder), ["gone", "other", "unknown"]);
        assert_eq!(names(&garbage, Collectable::BuildRecords), ["old", "strange"]);
        assert_eq!(names(&garbage, Collectable::Pin), ["bank.x", "old", "shop.gone", "shop.published"]);
        assert_eq!(names(&garbage, Collectable::Mirror), ["unpinned", "banks", "old", "left"]);
        assert_eq!(names(&garbage, Collectable::Caches), ["bank", "shop"]);
        assert_eq!(names(&garbage, Collectable::PushRecords), ["old-uid"]);
    }

    #[test]
    fn caches_of_projects_that_exist_stay_and_a_deleted_project_leaves_no_record_of_pushes() {
        let observed = observed(None);
        let kept = BTreeSet::from(["shop-uid".to_owned()]);
        let garbage = of_project("old-uid", "shop", &observed.caches, &kept);
        assert_eq!(
            garbage,
            [
                Garbage::Caches { namespace: "shop".to_owned(), projects: kept },
                Garbage::PushRecords { project: "old-uid".to_owned() }
            ]
        );
    }

    #[test]
    fn each_kind_that_leftovers_are_looked_through_for_is_found() {
        let found: BTreeSet<Collectable> = plan(&observed(None), now()).iter().map(Garbage::kind).collect();
        let all = Collectable::ALL.into_iter().filter(|kind| kind.collector() == Collector::Leftovers);
        // A partial file is known by its age alone, and the store looks for it.
        let all: BTreeSet<Collectable> = all.filter(|kind| *kind != Collectable::PartialFile).collect();
        assert_eq!(found, all);
    }
}
