//! Requests to the helper script and its answers: `key=value` lines, an empty line, a payload; an answer framed by a nonce. Whatever stands
//! outside the frame (banners, output of a login shell) is not part of the answer.

use std::fmt::Write as _;

use super::{HostError, types::ActCall};
use crate::{
    effects::{payload::Payload, ssh::Output},
    model::{
        ids::{ActId, FenceToken, Owner},
        text::last_lines,
    },
};

/// More than the results of ten thousand folders. Each takes some hundred bytes of memory.
const MAX_VALUES: usize = 100_000;

/// Values that the helper takes as they are; anything else goes as data (`arg`, `env`).
fn plain(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._+-".contains(&b))
}

/// One call, as it goes over stdin.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    text: String,
    bad: Option<&'static str>,
    pub payload: Option<Payload>,
}

impl Request {
    pub fn new(verb: &'static str) -> Self {
        Self::default().with("verb", verb)
    }

    pub fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string();
        if !plain(&value) {
            self.bad = Some(key);
        }
        let _ = writeln!(self.text, "{key}={value}");
        self
    }

    pub(crate) fn with_act(self, call: &ActCall) -> Self {
        let FenceToken { epoch, created, transitions } = &call.fence;
        let ActId { uid, rollout, attempt, n } = &call.act;
        let replaces = call.replaces.as_ref().map(owner_words).unwrap_or_default();
        self.with("folder", &call.folder)
            .with("owner", owner_words(&call.owner))
            .with("replaces", replaces)
            .with("fence", format!("{epoch} {created} {transitions}"))
            .with("act", format!("{uid} {rollout} {attempt} {n}"))
            .with("stepdir", stepdir(uid, rollout, *attempt, *n))
    }

    /// A word of the command, whatever is in it but NUL.
    pub(crate) fn with_word(mut self, word: &str) -> Self {
        self.data("arg=", word);
        self
    }

    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        let fits =
            name.bytes().enumerate().all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || i > 0 && b.is_ascii_digit());
        if name.is_empty() || !fits {
            self.bad = Some("the name of an environment variable");
        }
        self.data(&format!("env={name}="), value);
        self
    }

    fn data(&mut self, key: &str, value: &str) {
        if value.contains('\0') {
            self.bad = Some("a value with a NUL byte");
        }
        self.text.push_str(key);
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"._/:@,+=-".contains(&byte) {
                self.text.push(char::from(byte));
            } else {
                let _ = write!(self.text, "\\0{byte:03o}");
            }
        }
        self.text.push('\n');
    }

    /// The bytes before the payload.
    pub fn head(&self) -> Result<Vec<u8>, HostError> {
        match self.bad {
            Some(what) => {
                Err(HostError::BadInput { what, why: "it holds characters that are not allowed there".to_owned() })
            }
            None => Ok(format!("{}\n", self.text).into_bytes()),
        }
    }
}

/// `<uid8>-<rollout>-<attempt>-<n>`: the folder of a detached step.
pub(super) fn stepdir(uid: &str, rollout: &str, attempt: i64, n: u64) -> String {
    format!("{}-{rollout}-{attempt}-{n}", uid.get(..8).unwrap_or(uid))
}

fn owner_words(owner: &Owner) -> String {
    let Owner { control_plane_id, namespace, deployment, uid, host } = owner;
    format!("{control_plane_id} {namespace} {deployment} {uid} {host}")
}

/// Text of a host as a name: those of owners and epochs stand in messages that people copy into a shell.
pub(super) fn name(word: &str) -> Option<String> {
    let fits = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (fits && !word.is_empty() && word.len() <= 253).then(|| word.to_owned())
}

pub(super) fn owner_from(words: &str) -> Option<Owner> {
    let words: Vec<String> = words.split(' ').map(name).collect::<Option<_>>()?;
    let [control_plane_id, namespace, deployment, uid, host] = words.try_into().ok()?;
    Some(Owner { control_plane_id, namespace, deployment, uid, host })
}

/// The helper's answer: its results in their order, and the output of tools beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub values: Vec<(String, String)>,
    pub output: Vec<u8>,
}

impl Answer {
    /// Finds the frame; an answer without its end is none.
    pub fn read(nonce: &str, output: &Output) -> Result<Self, HostError> {
        let (begin, end) = (format!("{nonce} begin 1"), format!("{nonce} end "));
        let mut lines = output.stdout.split(|b| *b == b'\n');
        let mut answer = Self::default();
        if !lines.any(|line| line == begin.as_bytes()) {
            return Err(HostError::Protocol { why: no_frame(output) });
        }
        for line in lines {
            if line.starts_with(end.as_bytes()) {
                return Ok(answer);
            }
            let result =
                line.strip_prefix(b"@").and_then(|line| std::str::from_utf8(line).ok()).and_then(|l| l.split_once('='));
            if let Some((key, value)) = result {
                if answer.values.len() >= MAX_VALUES {
                    return Err(HostError::Protocol { why: format!("it has more than {MAX_VALUES} results") });
                }
                answer.values.push((key.to_owned(), value.to_owned()));
            } else {
                answer.output.extend_from_slice(line);
                answer.output.push(b'\n');
            }
        }
        Err(HostError::Protocol { why: "it ends in the middle".to_owned() })
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// What an act says itself: the facts that follow it may know of a later one.
    pub fn journal(&self) -> Option<u64> {
        self.values.iter().find(|(key, _)| key == "journal")?.1.parse().ok()
    }

    /// What the helper refused or failed with, if it did.
    pub fn error(&self) -> Option<HostError> {
        let (kind, rest) = self.get("error").map(|text| text.split_once(' ').unwrap_or((text, "")))?;
        let words: Vec<&str> = rest.split(' ').collect();
        let word = |i: usize| words.get(i).copied().unwrap_or_default();
        let bytes = |i: usize| word(i).parse::<u64>().unwrap_or_default();
        Some(match kind {
            "claimed" => match owner_from(rest) {
                Some(by) => HostError::HostClaimed { by: Box::new(by) },
                None => HostError::Protocol { why: "its owner file can't be read".to_owned() },
            },
            "fenced" => HostError::Fenced,
            "epoch" => match name(word(0)) {
                Some(epoch) => HostError::FencedByOtherControlPlane { epoch },
                None => HostError::Protocol { why: "its fence file can't be read".to_owned() },
            },
            "moved" => HostError::JournalMoved { now: bytes(0) },
            "busy" => {
                HostError::Busy { step: shown(word(0)), act: shown(&words.get(1..).unwrap_or_default().join(" ")) }
            }
            "full" => HostError::DiskFull { free: bytes(0).saturating_mul(1024), needed: bytes(1) },
            "port" => HostError::PortInUse { port: word(0).parse().unwrap_or_default() },
            "digest" => HostError::DigestMismatch { expected: String::new(), got: shown(word(0)) },
            "input" => HostError::BadInput {
                what: "a parameter of a call",
                why: format!("the helper refuses {}", shown(rest)),
            },
            "failed" => HostError::StepFailed {
                step: shown(word(0)),
                why: shown(&words.get(1..).unwrap_or_default().join(" ")),
                last_lines: last_lines(&self.output, 20),
            },
            other => HostError::Protocol { why: format!("it reports an unknown error ({})", shown(other)) },
        })
    }
}

/// Text of a host, made fit for a message.
pub(super) fn shown(text: &str) -> String {
    last_lines(text.as_bytes(), 1).pop().unwrap_or_default().chars().take(300).collect()
}

fn no_frame(output: &Output) -> String {
    let shown = if output.stdout.iter().any(|b| !b.is_ascii_whitespace()) { &output.stdout } else { &output.stderr };
    match last_lines(shown, 1).pop() {
        Some(line) => format!("its output: {}", line.chars().take(200).collect::<String>()),
        None => match output.status {
            Some(status) => format!("no output, and status {status}"),
            None => "no output".to_owned(),
        },
    }
}
