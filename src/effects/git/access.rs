//! What a repository is read and tagged with: the keys of one Secret, by Flux' names, checked before anybody is dialled.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    error::GitError,
    tls::{self, Trust},
    url::{Remote, RemoteLocation},
};
use crate::effects::{secret::SecretText, ssh::Credentials};

/// A repository as one namespace reads it. Cheap to clone; shows no secret.
#[derive(Clone, Debug)]
pub struct Source {
    /// Each namespace has mirrors of its own.
    pub namespace: String,
    pub url: String,
    pub access: Access,
    /// Uid of the Project that reads it for itself; what it has not fetched is not shown to it.
    pub reader: Option<String>,
}

impl Source {
    /// The same, read by a Project for itself.
    pub fn read_by(self, uid: impl Into<String>) -> Self {
        Self { reader: Some(uid.into()), ..self }
    }

    /// Read without a Secret.
    pub fn open(namespace: impl Into<String>, url: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), url: url.into(), access: Access::default(), reader: None }
    }
}

/// How one gets in. The default is nothing at all.
#[derive(Clone, Default)]
pub struct Access {
    pub(super) login: Option<Login>,
    /// Whose certificates are believed; `None`: the system's roots.
    pub(super) trust: Option<Trust>,
    pub(super) ssh: Option<Credentials>,
}

/// For https.
#[derive(Clone)]
pub(super) enum Login {
    Basic { user: SecretText, password: SecretText },
    Bearer(SecretText),
}

/// The keys that are read, each with what it is for.
pub const KEYS: [&str; 6] = ["username", "password", "bearerToken", "ca.crt", "identity", "known_hosts"];

impl Access {
    /// From a Secret's keys: `username` and `password` or `bearerToken`, and `ca.crt`, for https; `identity` and `known_hosts` for ssh.
    pub fn new(url: &str, secret: &str, mut keys: BTreeMap<String, SecretText>) -> Result<Self, GitError> {
        match Remote::parse(url, true)?.place {
            RemoteLocation::File => Ok(Self::default()),
            RemoteLocation::Https { .. } => https(secret, &mut keys),
            RemoteLocation::Ssh { .. } => ssh(secret, &mut keys),
        }
    }
}

/// `host`, or `host:port` where the port is not the scheme's own: what a Secret for this URL has to be annotated with. `None` for a file.
pub fn host_of(url: &str) -> Result<Option<String>, GitError> {
    let remote = Remote::parse(url, true)?;
    Ok(remote.server().map(|server| server.shown.clone()))
}

/// Name of the mirror's folder.
pub fn mirror_of(namespace: &str, url: &str) -> Result<String, GitError> {
    Ok(Remote::parse(url, true)?.folder_name(namespace))
}

fn https(secret: &str, keys: &mut BTreeMap<String, SecretText>) -> Result<Access, GitError> {
    let bad = |why: &str| GitError::BadSecret { secret: secret.to_owned(), why: why.to_owned() };
    let trust = match keys.remove("ca.crt") {
        Some(pem) => Some(tls::trust(pem.expose().as_bytes()).map_err(|why| bad(&format!("its ca.crt {why}")))?),
        None => None,
    };
    let login = match (keys.remove("username"), keys.remove("password"), keys.remove("bearerToken")) {
        (Some(user), Some(password), None) if user.expose().contains(':') || control(&user) || control(&password) => {
            return Err(bad("its username has a colon, or username or password have control characters"));
        }
        (Some(user), Some(password), None) => Some(Login::Basic { user, password }),
        (None, None, Some(token))
            if token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) =>
        {
            return Err(bad("its bearerToken is empty or has other characters than printable ASCII"));
        }
        (None, None, Some(token)) => Some(Login::Bearer(token)),
        (None, None, None) if trust.is_some() => None,
        (None, None, None) => {
            let why =
                "for https it needs username and password, or bearerToken, or ca.crt alone for a server without login"
                    .into();
            return Err(GitError::SecretKeyMissing { secret: secret.to_owned(), why });
        }
        (_, _, Some(_)) => return Err(bad("it has a bearerToken beside username or password; keep one of the two")),
        (Some(_), None, None) => return Err(missing(secret, "password")),
        (None, Some(_), None) => return Err(missing(secret, "username")),
    };
    Ok(Access { login, trust, ssh: None })
}

/// What an editor adds at the end of a file is no part of a password.
fn control(text: &SecretText) -> bool {
    text.expose().chars().any(char::is_control)
}

fn ssh(secret: &str, keys: &mut BTreeMap<String, SecretText>) -> Result<Access, GitError> {
    let mut take = |key: &str| keys.remove(key).ok_or_else(|| missing(secret, key));
    let (identity, known_hosts) = (take("identity")?, take("known_hosts")?);
    let ssh = Credentials::new(identity.expose(), known_hosts.expose())?;
    Ok(Access { login: None, trust: None, ssh: Some(ssh) })
}

fn missing(secret: &str, key: &str) -> GitError {
    GitError::SecretKeyMissing { secret: secret.to_owned(), why: format!("add the key {key:?}") }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("login", &self.login.is_some())
            .field("own_ca", &self.trust.is_some())
            .field("ssh", &self.ssh.is_some())
            .finish()
    }
}

/// One value for the `Authorization` header, marked so that nobody logs it.
pub(super) fn authorization(login: &Login) -> Result<hyper::header::HeaderValue, GitError> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = match login {
        Login::Basic { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{}:{}", user.expose(), password.expose())))
        }
        Login::Bearer(token) => format!("Bearer {}", token.expose()),
    };
    let bad = |_| GitError::BadSecret { secret: "of source.secretRef".into(), why: "it is no header's value".into() };
    let mut value = hyper::header::HeaderValue::from_str(&text).map_err(bad)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Kept together by whoever talks to a server.
pub(super) type SharedAccess = Arc<Access>;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretText> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretText::new(*value))).collect()
    }

    #[test]
    fn a_secret_that_does_not_fit_the_url_is_told_so() {
        let https = "https://h/x";
        for (url, pairs, word) in [
            (https, &[][..], "bearerToken"),
            (https, &[("username", "ann")], "password"),
            (https, &[("password", "swordfish")], "username"),
            (https, &[("username", "a"), ("password", "swordfish\n")], "control"),
            (https, &[("username", "a:b"), ("password", "swordfish")], "colon"),
            (https, &[("bearerToken", "sword fish")], "printable"),
            (https, &[("bearerToken", "swordfish"), ("username", "a"), ("password", "b")], "one of the two"),
            (https, &[("ca.crt", "swordfish")], "ca.crt"),
            ("ssh://h/x", &[("identity", "swordfish")], "known_hosts"),
            ("ssh://h/x", &[("known_hosts", "")], "identity"),
            ("ssh://h/x", &[("identity", "swordfish"), ("known_hosts", "")], "identity"),
        ] {
            let said = Access::new(url, "shop", keys(pairs)).unwrap_err().to_string();
            assert!(said.contains(word) && !said.contains("swordfish"), "{said}");
        }
        let access = Access::new(https, "shop", keys(&[("username", "ann"), ("password", "swordfish")])).unwrap();
        assert!(!format!("{access:?}").contains("swordfish"));
        assert!(authorization(&access.login.unwrap()).unwrap().is_sensitive());
    }

    #[test]
    fn a_secret_is_for_one_host_and_port() {
        assert_eq!(host_of("https://Git.example.com/x").unwrap().as_deref(), Some("git.example.com"));
        assert_eq!(host_of("ssh://git@git.example.com:2222/x").unwrap().as_deref(), Some("git.example.com:2222"));
        assert_eq!(host_of("file:///x").unwrap(), None);
    }
}
