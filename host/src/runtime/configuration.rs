//! The record `config/<hash>` of a configuration, its secret values beside it only where `keepSecretsOnHost` is set, and the files of
//! `shared/config/`.

use std::io;

use landfall_host_protocol::{ConfigHash, Configuration, FileValue, Reason, Secrets};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
};

/// What is on record of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub configuration: Configuration,
    /// Only with `keepSecretsOnHost`.
    #[serde(default)]
    pub secrets: Option<Secrets>,
}

/// `None`: it was never here.
pub fn load(folder: &Folder, hash: &ConfigHash) -> io::Result<Option<Kept>> {
    files::read_record(&folder.config(hash))
}

/// Keeps a configuration for later starts.
pub fn store(folder: &Folder, configuration: &Configuration, secrets: &Secrets) -> StepResult<()> {
    let path = folder.config(&configuration.hash);
    let kept = Kept {
        configuration: configuration.clone(),
        secrets: configuration.keep_secrets_on_host.then(|| secrets.clone()),
    };
    if load(folder, &configuration.hash).is_ok_and(|before| before.as_ref() == Some(&kept)) {
        return Ok(());
    }
    let write = || {
        if let Some(parent) = path.parent() {
            files::create_folder(parent, 0o700)?;
        }
        files::write_record(&path, &kept)
    };
    gate::pass("config.write", write).map_err(|error| files::failure(Reason::StartFailed, &error, &path))
}

/// Writes the files of `shared/config/`; those that are there already and the same are not touched.
pub fn write_files(folder: &Folder, configuration: &Configuration, secrets: &Secrets) -> StepResult<()> {
    let place = folder.shared().join("config");
    for file in &configuration.files {
        let bad = file.name.is_empty() || file.name.contains('/') || file.name == "." || file.name == "..";
        if bad {
            return Err(StepFailure::new(Reason::StartFailed, format!("{:?} is no name of a file", file.name)));
        }
        let text = match &file.value {
            FileValue::Plain(text) => text,
            FileValue::Secret(key) => secrets.0.get(key).ok_or_else(|| {
                StepFailure::new(Reason::AwaitingSecrets, format!("the secret value {key} is not on the host"))
            })?,
        };
        let path = place.join(&file.name);
        let mode = file.mode & 0o777;
        if is_same(&path, text.as_bytes(), mode) {
            continue;
        }
        let write = || {
            files::create_folder(&place, 0o755)?;
            files::write_whole(&path, text.as_bytes(), mode)
        };
        gate::pass("config.file", write).map_err(|error| files::failure(Reason::StartFailed, &error, &path))?;
    }
    Ok(())
}

fn is_same(path: &std::path::Path, text: &[u8], mode: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o777 == mode)
        && files::read_whole(path).is_ok_and(|found| found.as_deref() == Some(text))
}
