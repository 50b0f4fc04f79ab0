//! What is to be written to the operator: a queue with a bound. While it is full nothing more is read, so a peer that does not listen costs
//! its own session a megabyte and nothing else.

use std::{collections::VecDeque, io, os::fd::AsFd};

use landfall_host_protocol::{Answer, Kind, Push, Refusal, encode};
use rustix::io::Errno;
use serde::Serialize;

use super::short::{SHORTER, shorten};

/// Bytes beyond which the queue counts as full. One frame more may lie in it.
const FULL: usize = 1 << 20;
/// Bytes below which logs and tasks go on.
const IDLE: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Vec<u8>>,
    /// Bytes of the first frame that are written already.
    written: usize,
    held: usize,
    /// Nobody reads it any more.
    is_gone: bool,
}

impl Outgoing {
    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: Vec<u8>) {
        if !self.is_gone {
            self.held += bytes.len();
            self.frames.push_back(bytes);
        }
    }

    /// The reader is gone: what is held and what comes is dropped.
    pub(super) fn discard(&mut self) {
        *self = Self { is_gone: true, ..Self::default() };
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// An answer. One that no frame holds is shortened, or becomes a refusal.
    pub(super) fn answer(&mut self, id: u32, answer: &Answer) {
        if self.message(id, answer) {
            return;
        }
        let mut answer = answer.clone();
        for shorter in SHORTER {
            shorten(&mut answer, shorter);
            if self.message(id, &answer) {
                return;
            }
        }
        let why = "the answer is longer than a frame".to_owned();
        self.message(id, &Answer::Refused(Refusal::Failed { why }));
    }

    pub(super) fn refuse(&mut self, id: u32, field: &str, why: impl Into<String>) {
        let refusal = Refusal::BadInput { field: field.to_owned(), why: why.into() };
        self.answer(id, &Answer::Refused(refusal));
    }

    /// False: no frame holds it.
    pub(super) fn push(&mut self, push: &Push) -> bool {
        self.message(0, push)
    }

    /// Bytes that belong to a request; of a piece in the middle nothing is said where it is empty.
    pub(super) fn bytes(&mut self, id: u32, kind: Kind, payload: &[u8]) {
        if payload.is_empty() && kind == Kind::Bytes {
            return;
        }
        if let Ok(frame) = encode(kind, id, payload) {
            self.raw(frame);
        }
    }

    fn message<T: Serialize>(&mut self, id: u32, message: &T) -> bool {
        let frame = serde_json::to_vec(message).ok().and_then(|json| encode(Kind::Message, id, &json).ok());
        let fits = frame.is_some();
        if let Some(frame) = frame {
            self.raw(frame);
        }
        fits
    }

    pub(super) fn is_full(&self) -> bool {
        self.held >= FULL
    }

    /// So little waits that what has no end may say a piece.
    pub(super) fn is_idle(&self) -> bool {
        self.held < IDLE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes what the other end takes now.
    pub(super) fn flush(&mut self, to: impl AsFd) -> io::Result<()> {
        while let Some(frame) = self.frames.front() {
            match rustix::io::write(&to, frame.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    self.written += count;
                    self.held = self.held.saturating_sub(count);
                    if self.written >= frame.len() {
                        self.frames.pop_front();
                        self.written = 0;
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
