//! The right to act: one object for all operators of a control plane says who leads which namespaces, and each term has a fence that hosts
//! refuse lower ones by. Expiry is judged by monotonic time since the last change that was *observed*, never by another machine's clock.
//! What may be claimed is decided in `plan::leading`; here it is read, written and kept.
//!
//! | file | job |
//! |---|---|
//! | `elector.rs` | one operator: claims its scope, keeps it, gives it back, and opens and shuts the gate |
//! | `object.rs` | the shared object on the API server |
//! | `earlier.rs` | the Leases of operators of earlier versions |
//! | `fences.rs` | fences on record in the store |
//! | `namespace_state.rs` | whether the object's namespace is being deleted |

mod earlier;
mod elector;
mod fences;
mod namespace_state;
mod object;

pub(crate) use self::{
    elector::{Acquired, Elector, ElectorConfig},
    fences::keep_on_record,
};
use crate::{
    effects::api_server::api_message,
    model::leading::{self, OBJECT, Scope, Term},
};

/// A scope can't be led, or not any longer; nothing was done without it.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "the Lease {namespace}/{OBJECT}, by which operators agree who leads: {}; its account needs the ClusterRole landfall-lease there \
         (manifests/operator-rights.yaml)",
        api_message(source)
    )]
    Api { namespace: String, source: kube::Error },
    #[error(
        "the namespace {namespace}, in which operators agree who leads, does not exist: kubectl create namespace {namespace}, or name another \
         one with --lease-namespace, the same for all operators of this control plane"
    )]
    NoNamespace { namespace: String },
    #[error(
        "the Lease {namespace}/{OBJECT}, by which operators agree who leads, can't be read ({source}): a later version of landfall or a person \
         wrote it. If no other operator runs: kubectl -n {namespace} delete lease {OBJECT}"
    )]
    Unreadable { namespace: String, source: leading::Unreadable },
    #[error(
        "{scope} can't be led by this operator: {} leads {} since {}, and one namespace never has two leaders. Stop that operator, or choose \
         other namespaces with --namespaces. Who leads what: kubectl -n {namespace} get lease {OBJECT} -o yaml",
        term.holder, term.scope, term.since
    )]
    Refused { namespace: String, scope: Scope, term: Box<Term> },
    #[error("another operator ({0}) has taken the lead; this one ends and starts again as its successor")]
    Lost(String),
    #[error(
        "the Lease {namespace}/{OBJECT} was deleted while this operator led by it; it ends and starts again with a new term"
    )]
    Deleted { namespace: String },
}
