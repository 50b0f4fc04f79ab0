//! The record `config/<hash>` of a configuration, its secret values beside it only where `keepSecretsOnHost` is set.

use std::{
    io,
    path::{Path, PathBuf},
};

use landfall_host_protocol::{ConfigHash, Configuration, Reason, Secrets};
use serde::{Deserialize, Serialize};

use super::shared;
use crate::{failure::StepResult, files, folder::Folder, gate};

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

/// Removes what is on record of other configurations, and the files that only those had: both may hold secret values.
pub fn keep_only(folder: &Folder, kept: &[&ConfigHash]) {
    let place = shared::place(folder);
    for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
        if files::is_left_over(&entry.file_name()) {
            shared::remove_hidden(&entry.path());
        }
    }
    files::collect_left_over(&place);
    let paths: Vec<PathBuf> = kept.iter().map(|hash| folder.config(hash)).collect();
    let names = |path: &Path| -> Vec<String> {
        let kept: Option<Kept> = files::read_record(path).ok().flatten();
        kept.into_iter().flat_map(|kept| kept.configuration.files).map(|file| file.name).collect()
    };
    let needed: Vec<String> = paths.iter().flat_map(|path| names(path)).collect();
    for entry in std::fs::read_dir(folder.dot().join("config")).into_iter().flatten().flatten() {
        let path = entry.path();
        if paths.contains(&path) {
            continue;
        }
        let _ = gate::pass("config.collect", || {
            // The record goes last: it alone says which files were of it.
            for name in names(&path).iter().filter(|name| shared::is_name(name) && !needed.contains(name)) {
                files::remove_below(folder.root(), &place.join(name))?;
            }
            files::remove_file(&path)
        });
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{
        File, FileValue, FolderName, LogLimits, ProcessRuntime, RestartPolicy, Runtime, Stop,
    };

    use super::*;

    fn with(hash: &str, names: &[&str]) -> Configuration {
        let file =
            |name: &&str| File { name: (*name).to_owned(), mode: 0o600, value: FileValue::Secret("key".to_owned()) };
        Configuration {
            hash: ConfigHash::parse(hash).unwrap(),
            runtime: Runtime::Process(ProcessRuntime {
                command: Vec::new(),
                restart_policy: RestartPolicy::Always,
                stop: Stop::default(),
            }),
            env: Vec::new(),
            files: names.iter().map(file).collect(),
            run_as: None,
            readiness: None,
            liveness: None,
            log: LogLimits::default(),
            keep_secrets_on_host: true,
        }
    }

    #[test]
    fn a_secret_value_that_is_no_text_comes_to_its_file_and_back_from_the_record() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        std::fs::create_dir_all(folder.dot()).unwrap();
        let key = vec![0xff, 0x00, 0xfe, b'k'];
        let secrets = Secrets([("key".to_owned(), key.clone().into())].into());
        let configuration = with("1:0123456789abcdef", &["keystore"]);
        store(&folder, &configuration, &secrets).unwrap();
        shared::prepare(&folder, &configuration, &secrets).unwrap();
        assert_eq!(std::fs::read(folder.shared().join("config/keystore")).unwrap(), key);
        let kept = load(&folder, &configuration.hash).unwrap().unwrap();
        assert_eq!(kept.secrets, Some(secrets));
    }

    #[test]
    fn secret_values_of_configurations_that_are_gone_are_on_no_disk() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        std::fs::create_dir_all(folder.dot()).unwrap();
        let secrets = Secrets([("key".to_owned(), "hunter2".into())].into());
        let old = with("1:0123456789abcdef", &["both", "old"]);
        let new = with("1:0123456789abcde0", &["both"]);
        for configuration in [&old, &new] {
            store(&folder, configuration, &secrets).unwrap();
            shared::prepare(&folder, configuration, &secrets).unwrap();
        }
        let place = folder.shared().join("config");
        // What somebody else put there, and what a start left that died while it wrote.
        std::fs::write(place.join("others"), "").unwrap();
        std::fs::write(place.join(".old.4194305.new"), "hunter2").unwrap();
        std::fs::create_dir_all(place.join(".both.4194305.new/f00")).unwrap();
        std::fs::write(place.join(".both.4194305.new/f00/file"), "hunter2").unwrap();
        keep_only(&folder, &[&new.hash]);
        let mut left: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["both", "others"]);
        assert_eq!(load(&folder, &old.hash).unwrap(), None);
        assert!(load(&folder, &new.hash).unwrap().is_some());
    }
}
