//! One request of HTTP/1.1 and the status of its answer.

use std::time::Duration;

use landfall_host_protocol::HttpGet;

use super::{channel::Channel, connection::Stopped};

/// Bytes of an answer that are read at most.
const ANSWER_MAX: usize = 8 << 10;
/// Characters of an answer that are told.
const SHOWN_MAX: usize = 200;
/// For the words of a refusal, once its status is known.
const WORDS_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) struct Request {
    pub(super) text: String,
    /// The Host header that is sent.
    pub(super) host: String,
}

pub struct Answer {
    pub status: u16,
    /// The begin of what was said with a refusal.
    pub body: String,
}

impl Answer {
    /// The words of a refusal as they go behind it, for a person.
    pub fn said(&self) -> String {
        let said: String = self.body.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
        if said.is_empty() { String::new() } else { format!(": {said}") }
    }
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

pub(super) fn request(method: &str, get: &HttpGet) -> Result<Request, String> {
    let HttpGet { port, path, scheme: _, host, headers } = get;
    if !is_token(method) {
        return Err(format!("{method:?} is no method of HTTP"));
    }
    let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("path {path:?} of the probe has characters that must be written as %XX"));
    }
    let mut host = match host.as_deref() {
        None | Some("") => format!("127.0.0.1:{port}"),
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(host) => format!("{host}:{port}"),
    };
    let mut lines = String::new();
    for header in headers {
        if !is_token(&header.name) || header.value.contains(['\r', '\n', '\0']) {
            return Err(format!("header {:?} of the probe can't be sent", header.name));
        }
        if header.name.eq_ignore_ascii_case("host") {
            host.clone_from(&header.value);
        } else if !header.name.eq_ignore_ascii_case("connection") {
            lines.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
    }
    let names = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    if !names("user-agent") {
        lines.push_str("User-Agent: landfall-probe/1\r\n");
    }
    if !names("accept") {
        lines.push_str("Accept: */*\r\n");
    }
    if !matches!(method, "GET" | "HEAD") && !names("content-length") {
        lines.push_str("Content-Length: 0\r\n");
    }
    Ok(Request { text: format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n"), host })
}

/// Reads the status, and of a refusal what is said with it.
pub(super) fn answer(channel: &mut Channel<'_>) -> Result<Answer, Stopped> {
    let mut bytes = Vec::new();
    let status = loop {
        if let Some(status) = status_of(&bytes)? {
            break status;
        }
        if !read_more(channel, &mut bytes)? {
            return Err(Stopped::Failed("the connection was closed without an answer of HTTP".to_owned()));
        }
    };
    if !(200..400).contains(&status) {
        channel.hurry(WORDS_TIMEOUT);
        loop {
            match read_more(channel, &mut bytes) {
                Ok(true) => {}
                Ok(false) | Err(Stopped::TimedOut(_) | Stopped::Failed(_)) => break,
                Err(Stopped::Interrupted) => return Err(Stopped::Interrupted),
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(Answer { status, body: body.to_owned() })
}

/// False: the end, or enough.
fn read_more(channel: &mut Channel<'_>, bytes: &mut Vec<u8>) -> Result<bool, Stopped> {
    let mut buffer = [0u8; 2048];
    if bytes.len() >= ANSWER_MAX {
        return Ok(false);
    }
    let received = channel.receive(&mut buffer)?;
    bytes.extend_from_slice(buffer.get(..received).unwrap_or_default());
    Ok(received > 0)
}

/// `None`: the first line is not whole yet.
fn status_of(bytes: &[u8]) -> Result<Option<u16>, Stopped> {
    let none = || Stopped::Failed("the answer is none of HTTP".to_owned());
    let known = bytes.len().min(5);
    if bytes.get(..known) != b"HTTP/".get(..known) {
        return Err(none());
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() > 1024 { Err(none()) } else { Ok(None) };
    };
    let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let status = line.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    status.filter(|status| (100..600).contains(status)).map(Some).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{HttpHeader, HttpScheme};

    use super::*;

    fn get(path: &str, headers: &[(&str, &str)]) -> HttpGet {
        HttpGet {
            port: 8080,
            path: path.to_owned(),
            scheme: HttpScheme::Http,
            host: None,
            headers: headers
                .iter()
                .map(|(name, value)| HttpHeader { name: (*name).to_owned(), value: (*value).to_owned() })
                .collect(),
        }
    }

    #[test]
    fn the_host_header_is_the_address_unless_one_is_named() {
        let request = |get: &HttpGet| super::request("GET", get).unwrap().text;
        let text = request(&get("/healthz", &[("X-Probe", "1")]));
        assert!(text.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Probe: 1\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"));
        let text = request(&get("/", &[("host", "shop.example.com")]));
        assert!(text.contains("\r\nHost: shop.example.com\r\n"), "{text}");
        assert_eq!(text.to_lowercase().matches("host:").count(), 1);
        assert!(!text.contains("Content-Length"));
        let text = super::request("POST", &get("/", &[])).unwrap().text;
        assert!(text.starts_with("POST / HTTP/1.1\r\n") && text.contains("\r\nContent-Length: 0\r\n"), "{text}");
    }

    #[test]
    fn nothing_can_be_added_to_a_request() {
        for bad in
            [get("/a b", &[]), get("/a\r\nX: y", &[]), get("/", &[("X", "1\r\nY: 2")]), get("/", &[("X y", "1")])]
        {
            assert!(super::request("GET", &bad).is_err(), "{bad:?}");
        }
        for bad in ["", "GET /x", "G\r\n"] {
            assert!(super::request(bad, &get("/", &[])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_status_is_read_as_soon_as_it_is_there() {
        assert_eq!(status_of(b"HT"), Ok(None));
        assert_eq!(status_of(b"HTTP/1.1 20"), Ok(None));
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Ok(Some(204)));
        assert!(status_of(b"SSH-2.0-x\r\n").is_err());
        assert!(status_of(b"HTTP/1.1 abc\r\n").is_err());
        assert!(status_of(b"HTTP/1.1 9999\r\n").is_err());
    }
}
