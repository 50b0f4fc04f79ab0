//! Controllers: one frame for every kind, observe → plan → commit → act.
//!
//! A kind says how to observe, what to decide (`plan`, pure) and how to do one thing (`act`). The frame does the rest, once, and decides
//! nothing itself. Long work is started by an act as a task that outlives the reconcile and wakes the object.
//!
//! | file | job |
//! |---|---|
//! | `kind.rs` | what a kind has to say of itself; `shared.rs` is what the frame needs for all of them, `failures.rs`, `writes.rs` and `recent_events.rs` what it remembers |
//! | `watch.rs` | lists, watches and requeues become reconciles; `deletions.rs`, `requeue.rs` and `changes.rs` belong to it, `backoff.rs` says when to try again |
//! | `reconcile.rs` | the driver: one decision about one object, and what follows |
//! | `commit.rs` | the status on record; `patch.rs` is the change as operations, `throttle.rs` says which one can wait |
//! | `overwritten.rs` | a status that somebody else wrote over is decided on again |
//! | `unreadable.rs` | a Warning event on an object that can't be read |
//! | `finalizer.rs` | the finalizer as the plan says |
//! | `events.rs` | events for people's eyes |

mod backoff;
mod changes;
mod commit;
mod deletions;
mod events;
mod failures;
mod finalizer;
mod kind;
mod overwritten;
mod patch;
mod recent_events;
mod reconcile;
mod requeue;
mod shared;
mod throttle;
mod unreadable;
mod watch;
mod writes;

pub use self::{
    events::publish_event,
    kind::{Context, Kind},
    requeue::Requeue,
    shared::Shared,
    throttle::{DISPLAY_EVERY, WriteUrgency, worth_writing_now},
    watch::{list_readable, run},
};
pub use super::error::ReconcileError;
