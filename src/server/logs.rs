//! What logs of builds and of rollouts have in common: where to begin, what to answer with, how many may read.

use std::{pin::Pin, sync::Arc};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    View,
    problem::Problem,
    query::LogQuery,
    stream::{Reading, Until},
};
use crate::{
    api::view::{ATTEMPT_HEADER, OFFSET_HEADER},
    effects::logs::Log,
};

/// Readers at one time. Each costs some 200 KiB, whatever it reads.
pub const READERS: usize = 256;
const BUSY_SECONDS: u32 = 5;
const AWAY_SECONDS: u32 = 2;

/// Asked a few times a second whether nothing more comes.
type Ended = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send>;

/// A log that was found.
pub struct Readable {
    pub log: Log,
    /// What it is of, for a header.
    pub attempt: String,
    /// It is written, or was, where this operator looks.
    pub here: bool,
    /// Nothing more comes.
    pub over: bool,
    pub ended: Ended,
}

/// Takes a place among the readers.
pub fn place(view: &View) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    view.readers.clone().try_acquire_owned().map_err(|_| {
        Problem::too_many(format!("{READERS} readers follow logs already; try again in {BUSY_SECONDS} s"), BUSY_SECONDS)
    })
}

/// The answer: text, from the offset that is asked for.
pub async fn answer(
    view: &Arc<View>,
    readable: Readable,
    query: &LogQuery,
    place: tokio::sync::OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let Readable { log, attempt, here, over, ended } = readable;
    let broken = |error| Problem::internal(&error);
    let size = log.size().await.map_err(broken)?;
    let mut from = query.since.unwrap_or(0);
    if let Some(lines) = query.tail {
        from = from.max(log.last_lines(lines).await.map_err(broken)?);
    }
    if over && from > size {
        return Err(Problem::bad_request(format!("since is {from}, but the log has {size} bytes and is over")));
    }
    let until = if over {
        Until::Offset { end: size, over: true }
    } else if here || view.leads() {
        match query.follow {
            true => Until::Over(view.tails.join(&log, ended)),
            false => Until::Offset { end: size.max(from), over: false },
        }
    } else if from < size {
        Until::Cut(size)
    } else {
        return Err(away());
    };
    let mut response = Reading::new(log, from, until, place).into_body().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(OFFSET_HEADER, HeaderValue::from(from));
    if let Ok(attempt) = HeaderValue::from_str(&attempt) {
        headers.insert(ATTEMPT_HEADER, attempt);
    }
    Ok(response)
}

/// What is asked for is with an operator that leads, and none does.
pub fn away() -> Problem {
    Problem::unavailable(
        format!("no operator leads at the moment, and this is not in the store yet; try again in {AWAY_SECONDS} s"),
        AWAY_SECONDS,
    )
}
