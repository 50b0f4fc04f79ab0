//! Processes as `/proc` and pidfds show them: who lives, who belongs to whom, who listens. A process is (pid, start time, boot id).
//!
//! Nothing here decides what is to be ended, and no name is ever matched. What can't be seen (`hidepid`, another user's) is told as such.

mod belonging;
mod handle;
mod identity;
mod listener;
mod signal;
mod socket_diag;
mod stat;

pub use belonging::{
    MARK, children, descendants, describe, describe_all, marked, marked_of, members_of, session_members, suspected,
    suspected_beside, unseen_children, user_name, user_of,
};
pub(crate) use handle::timespec;
pub use handle::{Found, Handle, end_all, find, first_dead, is_dead};
pub use identity::{Identity, boot_id, instance_value};
pub use listener::{Listening, listening, owns, whose};
pub use signal::{signal_name, signal_of};
pub use stat::{Stat, pids, start_time_now, table};

/// Pretends in a debug build that the kernel has no pidfd calls (`ENOSYS`).
pub const WITHOUT_PIDFD: &str = "LANDFALL_HOST_WITHOUT_PIDFD";
