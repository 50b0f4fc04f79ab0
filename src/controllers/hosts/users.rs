//! Which Deployments read which folders of which hosts, so that a change wakes those and nobody else.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{check::Differs, config::HostKey};
use crate::model::ids::FolderName;

/// By namespace and name of the Deployment.
#[derive(Default)]
pub(super) struct HostUsers(Mutex<BTreeMap<(String, String), HostUser>>);

/// What one Deployment reads of hosts.
struct HostUser {
    group: String,
    folder: FolderName,
}

impl HostUsers {
    pub fn note(&self, namespace: &str, deployment: &str, group: &str, folder: &FolderName) {
        let user = HostUser { group: group.to_owned(), folder: folder.clone() };
        self.0.lock().insert((namespace.to_owned(), deployment.to_owned()), user);
    }

    pub fn forget(&self, namespace: &str, deployment: &str) {
        self.0.lock().remove(&(namespace.to_owned(), deployment.to_owned()));
    }

    /// The Deployments that may decide otherwise after this.
    pub fn of(&self, key: &HostKey, differs: &Differs) -> Vec<String> {
        let users = self.0.lock();
        let first = (key.namespace.clone(), String::new());
        let of_namespace = users.range(first..).take_while(|((namespace, _), _)| *namespace == key.namespace);
        let reads = |user: &HostUser| match differs {
            Differs::Host => true,
            Differs::Folders(folders) => folders.contains(&user.folder),
        };
        of_namespace
            .filter(|(_, user)| user.group == key.group && reads(user))
            .map(|((_, name), _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_a_folder_that_changed_is_woken_and_nobody_else() {
        let users = HostUsers::default();
        let folder = |project: &str| FolderName::new("shop", project);
        for (namespace, deployment, group, project) in [
            ("shop", "web", "g", "web"),
            ("shop", "db", "g", "db"),
            ("shop", "web-eu", "eu", "web"),
            ("other", "web", "g", "web"),
        ] {
            users.note(namespace, deployment, group, &folder(project));
        }
        let key = HostKey::new("shop", "g", "web-01");
        let woken = |differs: Differs| users.of(&key, &differs).join(" ");
        assert_eq!(woken(Differs::Folders([folder("web")].into())), "web");
        assert_eq!(woken(Differs::Folders([].into())), "");
        assert_eq!(woken(Differs::Host), "db web");
        users.forget("shop", "web");
        assert_eq!(woken(Differs::Host), "db");
    }
}
