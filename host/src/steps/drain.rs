//! `drain`: takes the application out of service, and its undo, which brings it back. The undo is on record before the drain acts.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use landfall_host_protocol::{Drain, HttpGet, HttpScheme, Reason, RunAs, Step};

use super::{
    Context, Done,
    command::{self, Spec},
    hook, is_target_running,
};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files, gate, task,
};

const MAX_ANSWER: usize = 8 << 10;

pub(super) fn drain(context: &Context<'_>, drain: &Drain) -> StepResult<Done> {
    if is_target_running(context) {
        return Ok(Done::Skipped);
    }
    let run_as = run_as(context);
    task::expect_undo(context.folder, &context.task.id, drain, run_as)
        .map_err(|error| files::failure(Reason::DrainFailed, &error, &context.folder.dot()))?;
    gate::pass("drain.run", || {
        Ok(match drain {
            Drain::Exec { command, timeout_seconds, .. } => exec(context, command, run_as, *timeout_seconds),
            Drain::Http { request, method, timeout_seconds, .. } => ask(method, request, *timeout_seconds),
        })
    })
    .unwrap_or_else(|error| Err(files::failure(Reason::DrainFailed, &error, &context.folder.path())))?;
    Ok(Done::Ended)
}

/// Brings the application back into service.
pub(crate) fn undrain(drain: &Drain, run_as: Option<&RunAs>, context: &Context<'_>) -> StepResult<()> {
    gate::pass("drain.undo", || {
        Ok(match drain {
            Drain::Exec { undo, .. } if undo.is_empty() => Ok(()),
            Drain::Exec { undo, timeout_seconds, .. } => exec(context, undo, run_as, *timeout_seconds),
            Drain::Http { undo: None, .. } => Ok(()),
            Drain::Http { undo: Some(request), method, timeout_seconds, .. } => ask(method, request, *timeout_seconds),
        })
    })
    .unwrap_or_else(|error| Err(files::failure(Reason::DrainFailed, &error, &context.folder.path())))
}

/// User that the task's application runs as.
fn run_as<'a>(context: &'a Context<'_>) -> Option<&'a RunAs> {
    context.task.steps.iter().find_map(|step| match step {
        Step::Start(start) => start.config.run_as.as_ref(),
        Step::Hook { config, .. } => config.run_as.as_ref(),
        _ => None,
    })
}

fn exec(context: &Context<'_>, command: &[String], run_as: Option<&RunAs>, seconds: u32) -> StepResult<()> {
    let folder = context.folder;
    let current = folder.current();
    let place = if current.is_dir() { current } else { folder.path() };
    let timeout = Duration::from_secs(u64::from(seconds));
    let spec = Spec { command, folder: &place, environment: hook::base(), run_as, timeout };
    command::run(context, &spec).map_err(|failed| {
        let mut failure = StepFailure::new(Reason::DrainFailed, failed.why);
        failure.lines = failed.lines;
        failure
    })
}

/// Asks once; a status from 200 to 299 is a yes.
fn ask(method: &str, request: &HttpGet, seconds: u32) -> StepResult<()> {
    let fail = |why: String| StepFailure::new(Reason::DrainFailed, why);
    if request.scheme == HttpScheme::Https {
        return Err(fail("drains by https are not supported yet".to_owned()));
    }
    let host = request.host.as_deref().unwrap_or("127.0.0.1");
    let address: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse().map_err(|_| fail(format!("{host} is no address")))?,
    };
    let address = SocketAddr::new(address, request.port);
    let text = request_text(method, request, address).map_err(fail)?;
    let status = exchange(address, &text, Duration::from_secs(u64::from(seconds.max(1))))
        .map_err(|error| fail(format!("{method} {} of {address}: {error}", request.path)))?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(fail(format!("{method} {} of {address} answers {status}", request.path)))
}

fn request_text(method: &str, request: &HttpGet, address: SocketAddr) -> Result<String, String> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if !is_token(method) {
        return Err(format!("{method:?} is no method"));
    }
    if !request.path.starts_with('/') || !request.path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{:?} is no path", request.path));
    }
    let mut text = format!("{method} {} HTTP/1.1\r\n", request.path);
    if !request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for header in &request.headers {
        if !is_token(&header.name) || header.value.contains(['\r', '\n', '\0']) {
            return Err(format!("the header {:?} can't be sent", header.name));
        }
        text.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    text.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    Ok(text)
}

/// One deadline for all of it.
fn exchange(address: SocketAddr, request: &str, timeout: Duration) -> io::Result<u16> {
    let since = clock::monotonic();
    let left = || {
        let left = timeout.saturating_sub(since.elapsed());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while !answer.contains(&b'\n') && answer.len() < MAX_ANSWER {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece)? {
            0 => break,
            read => answer.extend(piece.get(..read).unwrap_or_default()),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let mut words = text.split_ascii_whitespace();
    let status = words.next().filter(|word| word.starts_with("HTTP/")).and_then(|_| words.next()?.parse().ok());
    status.ok_or_else(|| io::Error::other("the answer is no HTTP"))
}
