//! Arguments of the commands by hand. Nothing is looked up here.

use std::{ffi::OsString, path::PathBuf};

use landfall_host_protocol::Author;

/// Characters of a person's name.
const MAX_USER: usize = 64;

/// What can be asked by hand.
pub const USAGE: &str = "\
  landfall-host status [FOLDER]
  landfall-host logs [-f] [-n LINES] [FOLDER]
  landfall-host stop [FOLDER] [--reason TEXT]
  landfall-host start [FOLDER] [--reason TEXT]
  landfall-host use VERSION [FOLDER] --reason TEXT

FOLDER is NAMESPACE.PROJECT or PROJECT; it may be left out where there is one.
--root ROOT names the root folder where the program does not lie in it.";

/// A longer reason is cut off.
const MAX_REASON: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Status,
    Logs { follow: bool, lines: Option<u32> },
    Stop,
    Start,
    Use { version: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) verb: Verb,
    pub(super) root: Option<PathBuf>,
    pub(super) folder: Option<String>,
    pub(super) reason: Option<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut words = Vec::new();
        let (mut root, mut reason, mut follow, mut lines) = (None, None, false, None);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_str().ok_or_else(|| format!("{argument:?} is no text"))?;
            let (name, joined) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
                _ => (text, None),
            };
            let mut value =
                || joined.clone().or_else(|| arguments.next().cloned()).ok_or_else(|| format!("{name} needs a value"));
            match name {
                "--root" => root = Some(PathBuf::from(value()?)),
                "--reason" => reason = Some(value()?.to_string_lossy().chars().take(MAX_REASON).collect()),
                "-n" | "--tail" => {
                    let count = value()?;
                    let count = count.to_str().and_then(|text| text.parse().ok());
                    lines = Some(count.ok_or_else(|| format!("{name} needs a number of lines"))?);
                }
                "-f" | "--follow" => follow = true,
                _ if text.starts_with('-') => return Err(format!("unknown option {text}")),
                _ => words.push(text.to_owned()),
            }
        }
        let mut words = words.into_iter();
        let verb = match words.next().as_deref() {
            Some("status") => Verb::Status,
            Some("logs") => Verb::Logs { follow, lines },
            Some("stop") => Verb::Stop,
            Some("start") => Verb::Start,
            Some("use") => Verb::Use { version: words.next().ok_or("use needs a version")? },
            Some(other) => return Err(format!("unknown command {other:?}")),
            None => return Err("a command is missing".to_owned()),
        };
        let folder = words.next();
        if let Some(surplus) = words.next() {
            return Err(format!("unexpected argument {surplus:?}"));
        }
        let is_log = matches!(verb, Verb::Logs { .. });
        if !is_log && (follow || lines.is_some()) {
            return Err("-f and -n belong to logs".to_owned());
        }
        if matches!(verb, Verb::Status | Verb::Logs { .. }) && reason.is_some() {
            return Err("--reason belongs to use, stop and start".to_owned());
        }
        if matches!(verb, Verb::Use { .. }) && reason.as_deref().is_none_or(|text: &str| text.trim().is_empty()) {
            return Err("use needs --reason TEXT: it is journaled and shown in the cluster".to_owned());
        }
        Ok(Self { verb, root, folder, reason })
    }

    /// The person, as the environment claims: whoever may act here may claim to be anybody.
    pub(super) fn author(&self) -> Author {
        let plain = |user: String| user.chars().filter(|c| !c.is_control()).take(MAX_USER).collect::<String>();
        let user = std::env::var("SUDO_USER").ok().map(plain).filter(|user| !user.is_empty());
        Author::Hand { reason: self.reason.clone().unwrap_or_default(), user }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(&text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn commands_are_read_with_their_options_in_any_order() {
        let options = parse("--root /srv use v1.4.1 --reason=down web").unwrap();
        assert_eq!(options.verb, Verb::Use { version: "v1.4.1".to_owned() });
        assert_eq!(options.root, Some(PathBuf::from("/srv")));
        assert_eq!((options.folder.as_deref(), options.reason.as_deref()), (Some("web"), Some("down")));
        assert_eq!(parse("logs -f -n 5").unwrap().verb, Verb::Logs { follow: true, lines: Some(5) });
        assert_eq!(parse("stop shop.web").unwrap().folder.as_deref(), Some("shop.web"));
    }

    #[test]
    fn what_means_nothing_is_said() {
        for (text, said) in [
            ("", "a command is missing"),
            ("restart", "unknown command \"restart\""),
            ("use", "use needs a version"),
            ("use v1", "use needs --reason TEXT: it is journaled and shown in the cluster"),
            ("use v1 --reason", "--reason needs a value"),
            ("status web more", "unexpected argument \"more\""),
            ("status --wide", "unknown option --wide"),
            ("logs -n many", "-n needs a number of lines"),
            ("stop -f", "-f and -n belong to logs"),
        ] {
            assert_eq!(parse(text), Err(said.to_owned()), "{text}");
        }
    }
}
