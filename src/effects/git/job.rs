//! What a call on a mirror may do.

#[derive(Clone, Copy, Default)]
pub(super) struct Job {
    /// Under the mirror's lock.
    pub(super) writes: bool,
    /// As much as a whole history may come.
    pub(super) long: bool,
    /// With the server, and so at the server's pace.
    pub(super) talks: bool,
}

pub(super) const READS: Job = Job { writes: false, long: false, talks: false };
pub(super) const WRITES: Job = Job { writes: true, long: false, talks: false };
