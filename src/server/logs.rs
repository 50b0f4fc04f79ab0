//! What logs of builds and of rollouts have in common: where to begin, what to answer with.

use std::{pin::Pin, sync::Arc};

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    api_error::ApiError,
    query::LogQuery,
    reader_permits::ReaderPermit,
    stamps::Stamps,
    state::View,
    stream::{Reading, Until},
};
use crate::{
    api::view::{ATTEMPT_HEADER, OFFSET_HEADER},
    effects::logs::Log,
};

const AWAY_SECONDS: u32 = 2;

/// Asked a few times a second whether nothing more comes.
type Ended = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send>;

/// A log that was found.
pub(crate) struct Readable {
    pub log: Log,
    /// What it is of, for a header.
    pub attempt: String,
    /// Whether this operator's data folder or store has it.
    pub here: bool,
    /// Nothing more comes.
    pub over: bool,
    pub ended: Ended,
}

/// The answer: text, from the offset that is asked for.
pub async fn answer(
    view: &Arc<View>,
    readable: Readable,
    query: &LogQuery,
    permit: ReaderPermit,
) -> Result<Response, ApiError> {
    let Readable { log, attempt, here, over, ended } = readable;
    let broken = |error| ApiError::internal(&error);
    let size = log.size().await.map_err(broken)?;
    let mut from = query.since.unwrap_or(0);
    if let Some(lines) = query.tail {
        from = from.max(log.last_lines(lines).await.map_err(broken)?);
    }
    if over && from > size {
        return Err(ApiError::bad_request(format!("since is {from}, but the log has {size} bytes and is over")));
    }
    let until = if over {
        Until::Offset { end: size, over: true }
    } else if here || view.leads() {
        match query.follow {
            true => Until::Over(view.followers.join(&log, ended)),
            false => Until::Offset { end: size.max(from), over: false },
        }
    } else if from < size {
        Until::Cut(size)
    } else {
        return Err(away());
    };
    let stamps = (query.timestamps && log.times.is_some()).then(|| Stamps::new(&log, from, over));
    let mut response = Reading::new(log, from, until, stamps, permit).into_body().into_response();
    let headers = response.headers_mut();
    mark_as_text(headers);
    headers.insert(OFFSET_HEADER, HeaderValue::from(from));
    if let Ok(attempt) = HeaderValue::from_str(&attempt) {
        headers.insert(ATTEMPT_HEADER, attempt);
    }
    Ok(response)
}

/// A log is text and nothing else, and nobody keeps a copy of it.
pub fn mark_as_text(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// What is asked for is with an operator that leads, and none does.
pub fn away() -> ApiError {
    ApiError::unavailable(
        format!("no operator leads at the moment, and this is not in the store yet; try again in {AWAY_SECONDS} s"),
        AWAY_SECONDS,
    )
}
