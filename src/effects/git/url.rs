//! URLs of repositories, parsed strictly. It must not dial anybody.

use sha2::{Digest, Sha256};

use super::error::GitError;

/// A URL that was found harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) url: String,
}

impl Remote {
    /// Takes `file:///absolute/path` where that is allowed. Other schemes are not carried yet.
    pub(super) fn parse(text: &str, allow_file: bool) -> Result<Self, GitError> {
        let bad = |why: &str| GitError::BadUrl { url: text.chars().take(200).collect(), why: why.to_owned() };
        if text.len() > 2048 || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(bad("it is too long, or has blanks, control characters or backslashes"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("write it as scheme://host/path"));
        };
        if !scheme.bytes().all(|b| b.is_ascii_lowercase()) || scheme.is_empty() {
            return Err(bad("its scheme is none of https, ssh and file"));
        }
        let url = ::url::Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if url.password().is_some() || (!url.username().is_empty() && scheme != "ssh") {
            return Err(GitError::BadUrl {
                url: format!("{scheme}://…"),
                why: "it holds a user or password; put them into a Secret".into(),
            });
        }
        if url.host_str().is_some_and(|host| host.starts_with('-')) || url.username().starts_with('-') {
            return Err(bad("host and user must not begin with '-'"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a '?' or '#'"));
        }
        match scheme {
            "file" if !allow_file => Err(GitError::SchemeNotAllowed {
                scheme: scheme.into(),
                hint: "; use https or ssh, or start the operator with --allow-file-git",
            }),
            "file" if !rest.starts_with('/') => Err(bad("a file URL has three slashes and an absolute path")),
            "file" if url.path_segments().is_some_and(|mut parts| parts.any(|part| part.starts_with('-'))) => {
                Err(bad("no part of the path may begin with '-'"))
            }
            "file" if rest.split('/').any(|part| part == "..") => Err(bad("its path has a '..'")),
            "file" => Ok(Self { url: text.to_owned() }),
            _ => Err(GitError::SchemeNotAllowed {
                scheme: scheme.into(),
                hint: "; this version takes file:// alone (https and ssh come with the next)",
            }),
        }
    }

    /// The mirror's folder: a hash, since URLs are no file names.
    pub(super) fn folder_name(&self) -> String {
        let digest = format!("{:x}", Sha256::digest(self.url.as_bytes()));
        format!("{}.git", digest.get(..32).unwrap_or(&digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_urls_are_refused() {
        for text in [
            "ext::sh -c id",
            "ext::sh",
            "--upload-pack=id",
            "-oProxyCommand=id",
            "/srv/x",
            "../x",
            "file://host/x",
            "file:///x\ny",
            "file:///x y",
            "file:///a/../b",
            "file:///--upload-pack=x",
            "fd::17",
            "File:///x",
            "https://user:secret@example.com/x",
            "https://-oProxyCommand=id/x",
            "ssh://-x@example.com/x",
            "file:///x?y",
            "git://example.com/x",
            "",
        ] {
            let parsed = Remote::parse(text, true);
            assert!(
                matches!(parsed, Err(GitError::BadUrl { .. } | GitError::SchemeNotAllowed { .. })),
                "{text:?}: {parsed:?}"
            );
            let said = parsed.map(|_| ()).map_err(|e| e.to_string());
            assert!(!format!("{said:?}").contains("secret"), "{said:?}");
        }
    }

    #[test]
    fn file_urls_need_the_operators_leave() {
        assert!(matches!(Remote::parse("file:///srv/x.git", false), Err(GitError::SchemeNotAllowed { .. })));
        assert!(Remote::parse("file:///srv/x.git", true).is_ok());
    }
}
