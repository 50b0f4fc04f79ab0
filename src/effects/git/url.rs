//! URLs of repositories, parsed strictly. It must not dial anybody.

use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use url::Host;

use super::error::GitError;

/// A URL that was found harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// As it was written.
    pub(super) url: String,
    pub(super) place: RemoteLocation,
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RemoteLocation {
    File,
    /// `path` begins with a slash and ends with none; it is percent-encoded.
    Https {
        server: Server,
        path: String,
    },
    /// `path` as the server's git takes it: `/srv/x.git` or `~user/x.git`, decoded.
    Ssh {
        server: Server,
        user: String,
        path: String,
    },
}

/// Server of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// How people write it: `host`, or `host:port` where the port is not the scheme's own. IPv6 addresses stand in brackets.
    pub(super) shown: String,
}

impl Remote {
    /// Takes `https://host/path` and `ssh://[user@]host/path`, and `file:///absolute/path` where that is allowed.
    pub(super) fn parse(text: &str, allow_file: bool) -> Result<Self, GitError> {
        let bad = |why: &str| GitError::BadUrl { url: text.chars().take(200).collect(), why: why.to_owned() };
        if text.len() > 2048 || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(bad("it is too long, or has blanks, control characters or backslashes"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("write it as https://host/path or ssh://user@host/path"));
        };
        if !scheme.bytes().all(|b| b.is_ascii_lowercase()) || scheme.is_empty() {
            return Err(bad("its scheme is none of https, ssh and file"));
        }
        let url = ::url::Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        if url.password().is_some() || (!url.username().is_empty() && scheme != "ssh") {
            return Err(GitError::BadUrl {
                url: format!("{scheme}://…"),
                why: "it holds a user or password; put them into a Secret, and name it in source.secretRef".into(),
            });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a '?' or '#'"));
        }
        if rest.split('/').any(|part| part == ".." || part == "." || part.eq_ignore_ascii_case("%2e%2e")) {
            return Err(bad("its path has a '..' or '.'"));
        }
        let place = match scheme {
            "file" => file(&url, rest, allow_file, bad)?,
            "https" | "ssh" if rest.starts_with('/') => return Err(bad("it has no host")),
            "https" => {
                let path = url.path().trim_end_matches('/').to_owned();
                if path.is_empty() {
                    return Err(bad("it has no path"));
                }
                RemoteLocation::Https { server: server(&url, 443, bad)?, path }
            }
            "ssh" => ssh(&url, bad)?,
            _ => {
                let hint = "; use https or ssh";
                return Err(GitError::SchemeNotAllowed { scheme: scheme.into(), hint });
            }
        };
        Ok(Self { url: text.to_owned(), place })
    }

    /// The mirror's folder: a hash, since URLs are no file names. Each namespace has its own: what one may read is no other's.
    pub(super) fn folder_name(&self, namespace: &str) -> String {
        let digest = Sha256::new().chain_update(namespace).chain_update([0]).chain_update(&self.url).finalize();
        let digest = format!("{digest:x}");
        format!("{}.git", digest.get(..32).unwrap_or(&digest))
    }

    /// `None` for a file.
    pub(super) fn server(&self) -> Option<&Server> {
        match &self.place {
            RemoteLocation::File => None,
            RemoteLocation::Https { server, .. } | RemoteLocation::Ssh { server, .. } => Some(server),
        }
    }

    /// For messages: where it is, or the URL of a file.
    pub(super) fn shown(&self) -> &str {
        self.server().map_or(&self.url, |server| &server.shown)
    }
}

fn file(url: &::url::Url, rest: &str, allow: bool, bad: impl Fn(&str) -> GitError) -> Result<RemoteLocation, GitError> {
    if !allow {
        let hint = "; use https or ssh, or start the operator with --allow-file-git";
        return Err(GitError::SchemeNotAllowed { scheme: "file".into(), hint });
    }
    if !rest.starts_with('/') {
        return Err(bad("a file URL has three slashes and an absolute path"));
    }
    if url.path_segments().is_some_and(|mut parts| parts.any(|part| part.starts_with('-'))) {
        return Err(bad("no part of the path may begin with '-'"));
    }
    Ok(RemoteLocation::File)
}

fn ssh(url: &::url::Url, bad: impl Fn(&str) -> GitError + Copy) -> Result<RemoteLocation, GitError> {
    let server = server(url, 22, bad)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let user = if url.username().is_empty() { "git" } else { url.username() };
    if user.starts_with('-') || !user.bytes().all(fits) {
        return Err(bad("its user has other characters than A-Z a-z 0-9 . _ -, or begins with '-'"));
    }
    let decoded = percent_decode_str(url.path()).decode_utf8().map_err(|_| bad("its path is no UTF-8"))?;
    if decoded.chars().any(char::is_control) || decoded.contains(['\'', '!', '\\']) {
        return Err(bad("its path has quotes, '!', backslashes or control characters"));
    }
    let path = decoded.trim_end_matches('/');
    // As git does: /~user/x is below that user's home.
    let path = if path.starts_with("/~") { path.trim_start_matches('/') } else { path };
    if path.is_empty() || path.split('/').any(|part| part.starts_with('-') || part == "..") {
        return Err(bad("it has no path, or a part of it is '..' or begins with '-'"));
    }
    Ok(RemoteLocation::Ssh { server, user: user.to_owned(), path: path.to_owned() })
}

fn server(url: &::url::Url, usual: u16, bad: impl Fn(&str) -> GitError) -> Result<Server, GitError> {
    let host = match url.host() {
        None => return Err(bad("it has no host")),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Domain(name)) => name.to_ascii_lowercase(),
    };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(fits) {
        return Err(bad("its host has other characters than letters, digits, '.', '-' and '_', or begins with '-'"));
    }
    let port = url.port().unwrap_or(usual);
    if port == 0 {
        return Err(bad("its port is 0"));
    }
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let shown = if port == usual { bracketed } else { format!("{bracketed}:{port}") };
    Ok(Server { host, port, shown })
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
            "git@example.com:x.git",
            "file://host/x",
            "file:///x\ny",
            "file:///x y",
            "file:///a/../b",
            "file:///--upload-pack=x",
            "fd::17",
            "File:///x",
            "https://user:secret@example.com/x",
            "https://secret@example.com/x",
            "https://-oProxyCommand=id/x",
            "https://example.com/x\r\nHost: evil",
            "https://example.com/a/../b",
            "https://example.com/a/%2e%2E/b",
            "https://example.com:0/x",
            "https://exa$(id)mple.com/x",
            "https:///x",
            "https://example.com",
            "https://example.com//",
            "http://example.com/x",
            "ssh://-x@example.com/x",
            "ssh://-oProxyCommand=id/x",
            "ssh://git:secret@example.com/x",
            "ssh://git@example.com/--upload-pack=id",
            "ssh://git@example.com/-x",
            "ssh://git@example.com/a'b",
            "ssh://git@example.com/a%27%3Bid%3B%27",
            "ssh://git@example.com/a%0ab",
            "ssh://git@example.com/%2e%2e/x",
            "ssh://git@example.com/",
            "ssh://g%20t@example.com/x",
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
            assert!(!format!("{said:?}").contains("secret@"), "{said:?}");
        }
    }

    #[test]
    fn a_server_is_named_with_its_port_where_that_is_not_the_usual_one() {
        for (text, shown, port) in [
            ("https://Git.Example.com/shop/x.git", "git.example.com", 443),
            ("https://git.example.com:8443/x", "git.example.com:8443", 8443),
            ("https://[::1]:8443/x", "[::1]:8443", 8443),
            ("ssh://git@git.example.com:22/x", "git.example.com", 22),
            ("ssh://192.0.2.1:2222/x", "192.0.2.1:2222", 2222),
        ] {
            let remote = Remote::parse(text, false).unwrap();
            let server = remote.server().unwrap();
            assert_eq!((server.shown.as_str(), server.port), (shown, port));
        }
    }

    #[test]
    fn an_ssh_path_is_what_the_servers_git_takes() {
        for (text, user, path) in [
            ("ssh://git@h/srv/x.git", "git", "/srv/x.git"),
            ("ssh://h/x.git/", "git", "/x.git"),
            ("ssh://ann@h/~ann/x.git", "ann", "~ann/x.git"),
            ("ssh://h/a%20b.git", "git", "/a b.git"),
        ] {
            let RemoteLocation::Ssh { user: u, path: p, .. } = Remote::parse(text, false).unwrap().place else {
                panic!()
            };
            assert_eq!((u.as_str(), p.as_str()), (user, path));
        }
    }

    #[test]
    fn file_urls_need_the_operators_leave() {
        assert!(matches!(Remote::parse("file:///srv/x.git", false), Err(GitError::SchemeNotAllowed { .. })));
        assert!(Remote::parse("file:///srv/x.git", true).is_ok());
    }

    #[test]
    fn one_url_has_a_mirror_for_each_namespace() {
        let remote = Remote::parse("https://example.com/x", false).unwrap();
        assert_ne!(remote.folder_name("a"), remote.folder_name("b"));
    }
}
