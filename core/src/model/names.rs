//! Newtypes, made once at the edge: whoever holds one need not check it again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a text was meant to be and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct BadName {
    pub what: &'static str,
    pub text: String,
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { what: $what, text: text.chars().take(100).collect(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A version, which is also the name of a tag.
    Version,
    "version",
    "it takes 1 to 63 of A-Z a-z 0-9 . _ + -, starts with a letter or digit, has no '..', and does not end in '.' or '.lock'",
    is_version
);

fn is_version(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 63
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && !text.contains("..")
        && !text.ends_with('.')
        && !text.ends_with(".lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_never_a_path_an_option_or_a_lock_file() {
        for bad in ["", "..", "-rf", "a..b", "v1.", "v1.lock", "a/b", "a b", "ä", &"v".repeat(64), ".hidden", "v1\n"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        for good in ["v1.4.2", "1", "2026.11.24-7", "a+b", &"v".repeat(63)] {
            assert!(good.parse::<Version>().is_ok(), "{good:?}");
        }
    }
}
