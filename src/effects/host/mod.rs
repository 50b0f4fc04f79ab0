//! What `landfall-host` says, as the planners and their controllers see it: facts, errors, and releases as they come there. The host itself
//! checks owner, fence and journal of every task. It must not decide what is to be done.
//!
//! | file | job |
//! |---|---|
//! | `bundles.rs` | a release as it comes to hosts, made once for all of them |
//! | `convert.rs` | what the program says, in the words of `model::facts` |
//! | `error.rs` | what can go wrong, and what to do about it |

mod bundles;
mod convert;
mod error;

use landfall_host_protocol::TaskId;

pub use self::{
    bundles::{Base, Bundle, Bundles},
    convert::{folder as folder_facts, host as host_facts},
    error::HostError,
};
use crate::model::{facts::OpenAct, ids::FolderName};

/// The id of a task that the facts name.
pub fn task_id(open: &OpenAct) -> TaskId {
    let OpenAct { uid, rollout, attempt, n, .. } = open;
    TaskId { uid: uid.clone(), rollout: rollout.clone(), attempt: *attempt, n: *n }
}

/// A folder's name as the program takes it.
pub fn folder_name(folder: &FolderName) -> Result<landfall_host_protocol::FolderName, HostError> {
    landfall_host_protocol::FolderName::parse(folder.as_str())
        .ok_or_else(|| HostError::BadInput { what: "the name of a project's folder", why: format!("{folder} is none") })
}
