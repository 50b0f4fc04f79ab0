//! A repository as a namespace reads it now: its Secret is read again each time, and used only for the host that it is for.

use super::secrets::SecretReader;
use crate::effects::git::{self, Access, Source};
use crate::model::Failure;

pub async fn repository(
    secrets: &SecretReader,
    namespace: &str,
    project: &str,
    url: &str,
    secret: Option<&str>,
) -> Result<Source, Failure> {
    let mut source = Source::open(namespace, url);
    let host = git::host_of(url)?;
    if let (Some(name), Some(host)) = (secret, host) {
        let keys = secrets.git_secret(namespace, project, name, &host, &git::KEYS).await?;
        source.access = Access::new(url, name, keys)?;
    }
    Ok(source)
}
