//! `fence`: the highest token seen. Tokens are compared within one epoch only; what another control plane left is refused until somebody
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
    if recorded.epoch != token.epoch {
        return Err(Refusal::OtherControlPlane { epoch: recorded.epoch.clone() });
    }
    if is_later(recorded, token) { Err(Refusal::Fenced) } else { Ok(()) }
}

/// Whether `token` is of a later term than `than`, of the same control plane.
pub fn is_later(token: &FenceToken, than: &FenceToken) -> bool {
    token.epoch == than.epoch && (token.created, token.transitions) > (than.created, than.transitions)
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
    fn a_lower_token_is_refused_within_its_epoch() {
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
        assert!(!is_later(&token("other", 99, 99), &seen));
    }
}
