//! Objects as the command line names them: `KIND/NAME`, with the kind's singular, plural, full and short name.

use super::error::CliError;

/// A kind of landfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Project,
    Build,
    HostGroup,
    Deployment,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Project, Self::Build, Self::HostGroup, Self::Deployment];

    /// As in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "Project",
            Self::Build => "Build",
            Self::HostGroup => "HostGroup",
            Self::Deployment => "Deployment",
        }
    }

    /// As in paths of the API server.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Project => "projects",
            Self::Build => "builds",
            Self::HostGroup => "hostgroups",
            Self::Deployment => "deployments",
        }
    }

    pub fn short(self) -> &'static str {
        match self {
            Self::Project => "lfp",
            Self::Build => "lfb",
            Self::HostGroup => "lfh",
            Self::Deployment => "lfd",
        }
    }

    /// An object as commands and messages name it: `deployment/NAME`.
    pub fn object(self, name: &str) -> String {
        format!("{}/{name}", self.name().to_ascii_lowercase())
    }

    fn parse(word: &str) -> Option<Self> {
        let word = word.strip_suffix(".landfall.dev").unwrap_or(word).to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| word == kind.name().to_ascii_lowercase() || word == kind.plural() || word == kind.short())
    }
}

/// The kind and the name of `KIND/NAME`.
pub fn parse(object: &str) -> Option<(Kind, &str)> {
    let (kind, name) = object.split_once('/')?;
    let kind = Kind::parse(kind)?;
    is_name(name).then_some((kind, name))
}

/// The same for a command that takes these kinds only.
pub(super) fn required<'a>(object: &'a str, kinds: &[Kind]) -> Result<(Kind, &'a str), CliError> {
    let wanted = || kinds.iter().map(|kind| kind.object("NAME")).collect::<Vec<_>>().join(" or ");
    let listed = || kinds.iter().map(|kind| kind.short()).collect::<Vec<_>>().join(",");
    parse(object).filter(|(kind, _)| kinds.contains(kind)).ok_or_else(|| CliError::BadName {
        object: object.to_owned(),
        wanted: format!("{}; `kubectl get {}` lists them", wanted(), listed()).into(),
    })
}

/// The name of `NAME` or `KIND/NAME`, where the kind is known.
pub(crate) fn name_of(kind: Kind, object: &str) -> Option<&str> {
    match parse(object) {
        Some((named, name)) => (named == kind).then_some(name),
        None => is_name(object).then_some(object),
    }
}

/// A name, and not a path.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_as_kubectl_names_it() {
        for good in ["deployment/web", "lfd/web", "deployments.landfall.dev/web", "Deployment/web"] {
            assert_eq!(parse(good), Some((Kind::Deployment, "web")), "{good}");
        }
        assert_eq!(parse("hostgroups/web"), Some((Kind::HostGroup, "web")));
        for bad in ["web", "pod/web", "deployment/", "/web", "build/a/b", "build/..%2f", "build/a?b"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_object_of_the_wrong_kind_is_refused_with_what_is_wanted() {
        assert_eq!(required("lfd/web", &[Kind::Build, Kind::Deployment]).unwrap(), (Kind::Deployment, "web"));
        let refused = required("project/web", &[Kind::Build, Kind::Deployment]).unwrap_err().to_string();
        assert_eq!(refused, "\"project/web\" is not build/NAME or deployment/NAME; `kubectl get lfb,lfd` lists them");
    }

    #[test]
    fn a_command_of_one_kind_takes_the_bare_name_as_well() {
        assert_eq!(name_of(Kind::Project, "shop"), Some("shop"));
        assert_eq!(name_of(Kind::Project, "lfp/shop"), Some("shop"));
        for bad in ["build/shop", "", "a/b", "shop?x"] {
            assert_eq!(name_of(Kind::Project, bad), None, "{bad}");
        }
    }
}
