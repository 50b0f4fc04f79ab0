//! What a folder remembers of acts: whom it belongs to, the highest token seen, who acts right now, and what was done. No step and no
//! process is in here; what belongs together is checked under [`Lock`].

pub mod fence;
pub mod journal;
mod lock;
pub mod owner;
pub mod shell;

pub use journal::Journal;
pub use lock::{Holder, Lock};
