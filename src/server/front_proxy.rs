//! The user of a request, as the API server's front proxy names it: read from the configured headers, and from nowhere else.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::error::ViewError;

const NAME: &str = "extension-apiserver-authentication";

/// Configuration of the API server's front proxy, from `kube-system/extension-apiserver-authentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrontProxy {
    /// Who signs its client certificate.
    pub authority: Vec<CertificateDer<'static>>,
    /// Common names that its certificate may have; empty: any.
    names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

/// A user whom the API server has authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl FrontProxy {
    pub async fn read(client: &Client) -> Result<Self, ViewError> {
        let map = Api::<ConfigMap>::namespaced(client.clone(), "kube-system").get(NAME).await;
        let map = map.map_err(|source| ViewError::FrontProxyUnread { source })?;
        Self::of(&map.data.unwrap_or_default())
    }

    fn of(data: &BTreeMap<String, String>) -> Result<Self, ViewError> {
        let bad = |key: &str| ViewError::FrontProxyUnusable { key: key.to_owned() };
        let list = |key: &str, default: &[&str]| match data.get(key) {
            Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|_| bad(key)),
            None => Ok(default.iter().map(ToString::to_string).collect()),
        };
        let key = "requestheader-client-ca-file";
        let pem = data.get(key).ok_or_else(|| bad(key))?;
        let authority: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| bad(key))?;
        if authority.is_empty() {
            return Err(bad(key));
        }
        Ok(Self {
            authority,
            names: list("requestheader-allowed-names", &[])?,
            user: list("requestheader-username-headers", &["X-Remote-User"])?,
            uid: list("requestheader-uid-headers", &["X-Remote-Uid"])?,
            group: list("requestheader-group-headers", &["X-Remote-Group"])?,
            extra: list("requestheader-extra-headers-prefix", &["X-Remote-Extra-"])?,
        })
    }

    /// Whether a certificate of its authority may speak for users.
    pub(crate) fn allows(&self, common_name: Option<&str>) -> bool {
        self.names.is_empty() || common_name.is_some_and(|name| self.names.iter().any(|allowed| allowed == name))
    }

    /// The user in the headers of a request whose sender was verified.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let all = |names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            values.filter_map(|value| Some(value.to_str().ok()?.to_owned())).filter(|value| !value.is_empty()).collect()
        };
        let name = all(&self.user).into_iter().next()?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = self.extra.iter().find_map(|prefix| header.as_str().strip_prefix(&prefix.to_ascii_lowercase()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(unescaped(key)).or_default().push(value.to_owned());
            }
        }
        Some(User { name, uid: all(&self.uid).into_iter().next(), groups: all(&self.group), extra })
    }

    /// The headers that name the user, for another replica that reads them the same way.
    pub(crate) fn passed_on<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Vec<(&'a axum::http::HeaderName, &'a axum::http::HeaderValue)> {
        let named = [&self.user, &self.uid, &self.group].into_iter().flatten();
        let named: Vec<String> = named.map(|name| name.to_ascii_lowercase()).collect();
        let extra: Vec<String> = self.extra.iter().map(|prefix| prefix.to_ascii_lowercase()).collect();
        let ours = |name: &str| named.iter().any(|one| one == name) || extra.iter().any(|one| name.starts_with(one));
        headers.iter().filter(|(name, _)| ours(name.as_str())).collect()
    }
}

/// Keys of extras come percent-encoded, since header names take few characters.
fn unescaped(key: &str) -> String {
    percent_decode_str(key).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front_proxy(names: &str) -> FrontProxy {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let data = [("requestheader-client-ca-file", pem.as_str()), ("requestheader-allowed-names", names)];
        FrontProxy::of(&data.map(|(key, value)| (key.to_owned(), value.to_owned())).into()).unwrap()
    }

    #[test]
    fn only_named_certificates_speak_for_users_unless_any_may() {
        let one = front_proxy(r#"["front-proxy-client"]"#);
        assert!(one.allows(Some("front-proxy-client")));
        assert!(!one.allows(Some("somebody")) && !one.allows(None));
        assert!(front_proxy("[]").allows(Some("somebody")));
        assert!(FrontProxy::of(&BTreeMap::new()).is_err());
    }

    #[test]
    fn a_user_is_read_with_groups_and_extras_and_nothing_is_a_user_without_a_name() {
        let mut headers = HeaderMap::new();
        let proxy = front_proxy("[]");
        assert_eq!(proxy.user(&headers), None);
        for (name, value) in [
            ("x-remote-user", "alice"),
            ("x-remote-group", "shop"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-example.com%2fscopes", "read"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let user = proxy.user(&headers).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("alice", 2));
        assert_eq!(user.extra, BTreeMap::from([("example.com/scopes".to_owned(), vec!["read".to_owned()])]));
        assert_eq!(proxy.passed_on(&headers).len(), 4);
    }
}
