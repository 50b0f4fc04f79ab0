//! One commit's files in a fresh folder.

use std::path::Path;

use super::{GitError, mirror::Mirror};

pub(super) fn checkout(_m: &Mirror, _sha: &str, _dest: &Path) -> Result<(), GitError> {
    unimplemented!()
}
