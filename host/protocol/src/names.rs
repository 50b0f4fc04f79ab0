//! What names a folder, a release, an owner and an operator's token. Each is checked while it is read, so none can lead out of its folder.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a text was meant to be and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    pub what: &'static str,
    pub text: String,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no {}", self.text.chars().take(100).collect::<String>(), self.what)
    }
}

impl std::error::Error for NameError {}

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $what:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads a name that the other end reported; `None` where it can't be one of ours.
            pub fn parse(text: &str) -> Option<Self> {
                let fits: fn(&str) -> bool = $fits;
                fits(text).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text).ok_or(NameError { what: $what, text })
            }
        }
    };
}

checked! {
    /// `<namespace>.<project>`: a project's folder below the group's root. Neither part has a dot, both are DNS labels.
    FolderName, "folder of a project", |text| {
        let fits = |part: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&part.len()) && part.bytes().all(plain)
        };
        text.split_once('.').is_some_and(|(namespace, project)| fits(namespace) && fits(project))
    }
}

impl FolderName {
    pub fn new(namespace: &str, project: &str) -> Self {
        Self(format!("{namespace}.{project}"))
    }

    pub fn namespace(&self) -> &str {
        self.0.split_once('.').map_or("", |(namespace, _)| namespace)
    }
}

checked! {
    /// `<version>-<digest12>`: the folder of one unpacked release below `releases/`.
    ReleaseName, "name of a release", |text| {
        let Some((version, digest)) = text.rsplit_once('-') else { return false };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let starts = version.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        starts && text.len() <= 100 && version.bytes().all(plain) && digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

impl ReleaseName {
    /// `digest` is the SHA-256 of the release in hex, 64 digits, without a prefix.
    pub fn new(version: &str, digest: &str) -> Self {
        Self(format!("{version}-{}", digest.get(..12).unwrap_or(digest)))
    }

    pub fn version(&self) -> &str {
        self.0.rsplit_once('-').map_or(self.0.as_str(), |(version, _)| version)
    }
}

checked! {
    /// A SHA-256 in hex: 64 lower-case digits.
    Digest, "SHA-256", |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Digest {
    /// The text of 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'a' + n - 10 });
        Self(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
    }

    /// The 32 bytes of the text.
    pub fn to_bytes(&self) -> [u8; 32] {
        let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit.wrapping_sub(b'a' - 10) };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(self.0.as_bytes().chunks_exact(2)) {
            if let [high, low] = pair {
                *byte = (value(*high) << 4) | (value(*low) & 15);
            }
        }
        bytes
    }
}

checked! {
    /// The hash of a configuration, with its algorithm: `1:<32 hex digits>`, with secret values `2:<64>`. It names `config/<hash>` with `-` for `:`.
    ConfigHash, "hash of a configuration", |text| {
        let Some((algorithm, hash)) = text.split_once(':') else { return false };
        let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits(algorithm, 4) && (8..=64).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// What proves that an operator is not an old one: compared by a host within one control plane, by format, then in the order of the fields.
///
/// Source: `epoch` is `2:<id of the control plane>` (uid of its namespace `kube-system`), and `created` a counter that only rises. Before that
/// format `epoch` was the id alone, and `created` and `transitions` the term of a lease: whoever compares epochs as that time did takes the
/// new one for another control plane's, and does not act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceToken {
    pub epoch: String,
    pub created: i64,
    pub transitions: i64,
}

/// What a token of the counter's format begins with.
const COUNTER_FORMAT: &str = "2:";

impl FenceToken {
    pub fn control_plane_id(&self) -> &str {
        self.epoch.strip_prefix(COUNTER_FORMAT).unwrap_or(&self.epoch)
    }

    /// Whether this is the token of a later operator of the same control plane.
    pub fn is_later_than(&self, other: &Self) -> bool {
        let order = |token: &Self| (token.epoch.starts_with(COUNTER_FORMAT), token.created, token.transitions);
        self.control_plane_id() == other.control_plane_id() && order(self) > order(other)
    }
}

/// Whom a project's folder on a host belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The control plane: uid of its namespace `kube-system`.
    pub control_plane_id: String,
    pub namespace: String,
    pub deployment: String,
    /// The Deployment's uid.
    pub uid: String,
    /// The host's name in its group.
    pub host: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder() {
        for text in ["..", "../x.y", "shop", "shop.", ".shop", "a.b.c", "A.b", "a/b.c", ""] {
            assert_eq!(FolderName::parse(text), None, "{text:?}");
        }
        for text in ["..-0123456789ab", "../v1-0123456789ab", "v1", "v1-0123", "-v1-0123456789ab", "v 1-0123456789ab"] {
            assert_eq!(ReleaseName::parse(text), None, "{text:?}");
        }
        for text in ["1:../../etc", "1:", ":0123456789", "0123456789ab"] {
            assert_eq!(ConfigHash::parse(text), None, "{text:?}");
        }
        assert!(serde_json::from_str::<FolderName>("\"../etc.d\"").is_err());
    }

    #[test]
    fn a_digest_is_the_same_as_text_and_as_bytes() {
        let bytes: [u8; 32] = std::array::from_fn(|n| (n * 37 + 5) as u8);
        let digest = Digest::from_bytes(bytes);
        assert_eq!(Digest::parse(digest.as_str()), Some(digest.clone()));
        assert_eq!(digest.to_bytes(), bytes);
    }

    #[test]
    fn our_own_names_are_read_again() {
        let digest = "ab".repeat(32);
        assert_eq!(FolderName::parse("shop-team.shop"), Some(FolderName::new("shop-team", "shop")));
        let release = ReleaseName::new("v1.4.2-rc.1+b7", &digest);
        assert_eq!(
            ReleaseName::parse(release.as_str()).map(|name| name.version().to_owned()),
            Some("v1.4.2-rc.1+b7".to_owned())
        );
        assert_eq!(Digest::parse(&digest).map(String::from), Some(digest));
    }
}
