//! Who leads: the record that all operators of a control plane share in one object. Each term says who works for which namespaces, and
//! carries its fence; the counter is the highest fence that was ever given. It must not decide who may lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Name of the object, a Lease.
pub const OBJECT: &str = "landfall-scopes";
/// Annotation with the highest fence that was given.
pub const FENCE_COUNTER: &str = "landfall.dev/fence-counter";
/// Annotation with the terms, as a list in JSON.
pub const SCOPES: &str = "landfall.dev/scopes";

/// In place of names: all namespaces.
const ALL: &str = "*";

/// What an operator works for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<String>", into = "BTreeSet<String>")]
pub enum Scope {
    /// All namespaces, also those that are made later.
    ControlPlane,
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Of the names on a command line; none is all.
    pub fn of(namespaces: &[String]) -> Self {
        match namespaces {
            [] => Self::ControlPlane,
            names => Self::from(names.iter().cloned().collect::<BTreeSet<_>>()),
        }
    }

    /// Whether some namespace belongs to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Namespaces(these), Self::Namespaces(those)) => !these.is_disjoint(those),
            _ => true,
        }
    }
}

impl From<BTreeSet<String>> for Scope {
    fn from(names: BTreeSet<String>) -> Self {
        // A term without a namespace can't be; read as all, it keeps everybody out rather than nobody.
        if names.is_empty() || names.contains(ALL) { Self::ControlPlane } else { Self::Namespaces(names) }
    }
}

impl From<Scope> for BTreeSet<String> {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::ControlPlane => [ALL.to_owned()].into(),
            Scope::Namespaces(names) => names,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane => f.write_str("the whole control plane"),
            Self::Namespaces(names) => {
                let word = if names.len() == 1 { "namespace" } else { "namespaces" };
                write!(f, "{word} {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// One operator leads one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    #[serde(rename = "namespaces")]
    pub scope: Scope,
    /// `<host>_<pid>_<random>`.
    pub holder: String,
    pub since: Timestamp,
    /// By the holder's clock, for people: nobody judges by it.
    pub renewed: Timestamp,
    /// Number of renewals. A term that stays at one number for its lease is over.
    pub renewals: u64,
    /// How long it lasts without being renewed.
    pub lease_seconds: u64,
    /// The number that hosts refuse lower ones by.
    pub fence: i64,
    /// Where this replica serves the aggregated API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_address: Option<String>,
}

/// All that the object says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The highest fence that was given; 0 where none was.
    pub counter: i64,
    pub terms: Vec<Term>,
}

/// The object can't be read. Whoever wrote over it might lead beside another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}: {why}")]
pub struct Unreadable {
    pub annotation: &'static str,
    pub why: String,
}

impl Leadership {
    /// Whoever makes the object writes both annotations: one that is missing is no free scope.
    pub fn read(annotations: &BTreeMap<String, String>) -> Result<Self, Unreadable> {
        let text =
            |annotation| annotations.get(annotation).ok_or_else(|| unreadable(annotation, "it was removed".to_owned()));
        let terms: Vec<Term> =
            serde_json::from_str(text(SCOPES)?).map_err(|error| unreadable(SCOPES, error.to_string()))?;
        let counter = text(FENCE_COUNTER)?;
        let counter = counter.parse().map_err(|_| unreadable(FENCE_COUNTER, format!("{counter:?} is no number")))?;
        let counter = terms.iter().map(|term| term.fence).fold(counter, i64::max);
        Ok(Self { counter, terms })
    }

    /// Puts it among the annotations, and leaves all others as they are. One term a line, for its readers.
    pub fn write(&self, annotations: &mut BTreeMap<String, String>) -> Result<(), serde_json::Error> {
        let terms = self.terms.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let text = if terms.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", terms.join(",\n")) };
        annotations.insert(SCOPES.to_owned(), text);
        annotations.insert(FENCE_COUNTER.to_owned(), self.counter.to_string());
        Ok(())
    }
}

fn unreadable(annotation: &'static str, why: String) -> Unreadable {
    Unreadable { annotation, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(names: &[&str]) -> Scope {
        Scope::of(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn term(names: &[&str], fence: i64) -> Term {
        Term {
            scope: scope(names),
            holder: "node_1_ab".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            renewed: Timestamp::UNIX_EPOCH,
            renewals: 3,
            lease_seconds: 15,
            fence,
            view_address: None,
        }
    }

    #[test]
    fn scopes_overlap_where_a_namespace_belongs_to_both() {
        assert!(scope(&[]).overlaps(&scope(&["a"])) && scope(&["a"]).overlaps(&scope(&[])));
        assert!(scope(&["a", "b"]).overlaps(&scope(&["b", "c"])));
        assert!(!scope(&["a", "b"]).overlaps(&scope(&["c"])));
        assert_eq!(scope(&["b", "a", "b"]), scope(&["a", "b"]));
    }

    #[test]
    fn the_object_reads_as_it_was_written_and_keeps_other_annotations() {
        let leadership = Leadership { counter: 1_800_000_000, terms: vec![term(&[], 7), term(&["a", "b"], 9)] };
        let mut annotations = BTreeMap::from([("note".to_owned(), "mine".to_owned())]);
        leadership.write(&mut annotations).unwrap();
        assert_eq!(Leadership::read(&annotations), Ok(leadership));
        assert_eq!(annotations["note"], "mine");
        assert!(annotations[SCOPES].contains(r#"{"namespaces":["a","b"],"holder":"node_1_ab""#));
        assert!(annotations[SCOPES].contains(r#"{"namespaces":["*"]"#));
    }

    #[test]
    fn a_counter_that_was_set_back_by_hand_stays_above_every_fence() {
        let mut annotations = BTreeMap::new();
        Leadership { counter: 0, terms: vec![term(&["a"], 9)] }.write(&mut annotations).unwrap();
        assert_eq!(Leadership::read(&annotations).unwrap().counter, 9);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_taken_for_nothing() {
        let mut whole = BTreeMap::new();
        Leadership::default().write(&mut whole).unwrap();
        assert_eq!(Leadership::read(&whole), Ok(Leadership::default()));
        for (annotation, text) in [(FENCE_COUNTER, "many"), (SCOPES, "{}"), (SCOPES, "[{\"holder\":1}]")] {
            let mut broken = whole.clone();
            broken.insert(annotation.to_owned(), text.to_owned());
            assert_eq!(Leadership::read(&broken).unwrap_err().annotation, annotation);
            broken.remove(annotation);
            assert_eq!(Leadership::read(&broken).unwrap_err().annotation, annotation, "somebody removed it");
        }
    }
}
