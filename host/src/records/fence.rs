//! `fence`: the highest token seen. Tokens are compared within one control plane only; what another one left is refused until somebody
//! adopts the folder.

use std::io;

use landfall_host_protocol::{FenceToken, Refusal};

use super::shell;
use crate::{files, folder::Folder, gate};

/// The highest token seen, also one of the shell helper's time.
pub fn read(folder: &Folder) -> io::Result<Option<FenceToken>> {
    let path = folder.fence();
    let Some(text) = files::read_whole(&path)? else { return Ok(None) };
    match shell::fence(&text) {
        Some(token) => Ok(Some(token)),
        None => files::read_record(&path),
    }
}

/// Whether an operator with this token may act. An adoption is what a person said, and takes any token.
pub fn check(recorded: Option<&FenceToken>, token: &FenceToken, adopts: bool) -> Result<(), Refusal> {
    let Some(recorded) = recorded.filter(|_| !adopts) else { return Ok(()) };
    if recorded.control_plane_id() != token.control_plane_id() {
        return Err(Refusal::OtherControlPlane { epoch: recorded.control_plane_id().to_owned() });
    }
    if recorded.is_later_than(token) { Err(Refusal::Fenced) } else { Ok(()) }
}

pub fn write(folder: &Folder, token: &FenceToken) -> io::Result<()> {
    gate::pass("fence.write", || files::write_record(&folder.fence(), token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(epoch: &str, created: i64, transitions: i64) -> FenceToken {
        FenceToken { epoch: epoch.to_owned(), created, transitions }
    }

    #[test]
    fn a_lower_token_is_refused_within_its_control_plane() {
        let seen = token("plane", 10, 3);
        for (created, transitions) in [(10, 3), (10, 4), (11, 0)] {
            assert_eq!(check(Some(&seen), &token("plane", created, transitions), false), Ok(()));
        }
        for (created, transitions) in [(10, 2), (9, 99)] {
            assert_eq!(check(Some(&seen), &token("plane", created, transitions), false), Err(Refusal::Fenced));
        }
        assert_eq!(check(None, &token("plane", 0, 0), false), Ok(()));
    }

    #[test]
    fn another_control_plane_is_refused_until_it_adopts() {
        let seen = token("plane", 10, 3);
        let refused = Err(Refusal::OtherControlPlane { epoch: "plane".to_owned() });
        assert_eq!(check(Some(&seen), &token("other", 99, 99), false), refused);
        assert_eq!(check(Some(&seen), &token("other", 1, 0), true), Ok(()));
        assert!(!token("other", 99, 99).is_later_than(&seen));
    }

    #[test]
    fn a_token_of_the_counter_is_later_than_every_one_of_a_lease() {
        // A Lease that was made after the counter's object has a larger number, and is none the later for it.
        let (lease, counter) = (token("plane", 1_900_000_000, 7), token("2:plane", 1_800_000_000, 0));
        assert_eq!(check(Some(&lease), &counter, false), Ok(()));
        assert_eq!(check(Some(&counter), &lease, false), Err(Refusal::Fenced));
        assert_eq!(check(Some(&counter), &token("2:plane", 1_800_000_001, 0), false), Ok(()));
        assert_eq!(check(Some(&counter), &token("2:plane", 1_799_999_999, 0), false), Err(Refusal::Fenced));
        let refused = Err(Refusal::OtherControlPlane { epoch: "plane".to_owned() });
        assert_eq!(check(Some(&counter), &token("2:other", 1_900_000_000, 0), false), refused);
        // As the program and the shell helper of that time compare.
        assert_ne!(counter.epoch, lease.epoch);
    }
}
