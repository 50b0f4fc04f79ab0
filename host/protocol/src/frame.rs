//! Frames: a length, a kind and an id, then the payload. Both ends read and write the same way; no I/O here.
//!
//! ```text
//! 0      4    5    9
//! | length | k | id | payload … |     length of the payload and id: big endian, 4 bytes each; k: 1 byte
//! ```
//!
//! The host begins its stream with [`MAGIC`]: login shells and rc files print, and what stands before it is noise.

use std::fmt;

/// First bytes of the host's stream.
pub const MAGIC: &[u8] = b"\nlandfall-host stream\n";
/// Largest payload, in bytes. Bytes of a release come in many frames.
pub const MAX_FRAME: usize = 1 << 20;
/// Largest noise before [`MAGIC`], in bytes.
pub const MAX_NOISE: usize = 64 << 10;
const HEADER: usize = 9;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON of a [`crate::Request`], [`crate::Answer`] or [`crate::Push`].
    Message,
    /// Bytes that belong to the request with this id.
    Bytes,
    /// The last bytes of that request; often empty.
    LastBytes,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Message => b'M',
            Self::Bytes => b'B',
            Self::LastBytes => b'L',
        }
    }

    fn read(code: u8) -> Option<Self> {
        match code {
            b'M' => Some(Self::Message),
            b'B' => Some(Self::Bytes),
            b'L' => Some(Self::LastBytes),
            _ => None,
        }
    }
}

/// One frame. `id`: the request it belongs to, chosen by the operator, from 1; 0 for what the host says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub id: u32,
    pub payload: Vec<u8>,
}

/// What makes a stream unreadable; nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A payload longer than [`MAX_FRAME`].
    TooLong(usize),
    UnknownKind(u8),
    /// More than [`MAX_NOISE`] bytes before [`MAGIC`].
    NoMagic,
    /// The payload of a frame to be written is longer than [`MAX_FRAME`].
    CannotSend(usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "a frame of {length} bytes; {MAX_FRAME} are the most"),
            Self::UnknownKind(code) => write!(f, "a frame of the unknown kind {code}"),
            Self::NoMagic => write!(f, "{MAX_NOISE} bytes without the first words of landfall-host"),
            Self::CannotSend(length) => {
                write!(f, "a payload of {length} bytes can't be sent; {MAX_FRAME} are the most")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// The bytes of one frame.
pub fn encode(kind: Kind, id: u32, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_FRAME);
    let length = length.ok_or(FrameError::CannotSend(payload.len()))?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(length.to_be_bytes());
    bytes.push(kind.code());
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

/// Reads frames from bytes as they come. It holds at most one frame and what was fed last.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    noise: Option<usize>,
}

impl Decoder {
    /// For the operator's end: frames begin after [`MAGIC`].
    pub fn after_magic() -> Self {
        Self { bytes: Vec::new(), at: 0, noise: Some(0) }
    }

    /// For the host's end: frames begin at once.
    pub fn at_once() -> Self {
        Self { bytes: Vec::new(), at: 0, noise: None }
    }

    /// Bytes as they were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// [`MAGIC`] was seen, or is not waited for.
    pub fn has_begun(&self) -> bool {
        self.noise.is_none()
    }

    /// The next whole frame, `None` where more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.skip_noise()? {
            return Ok(None);
        }
        let held = &self.bytes[self.at..];
        let Some((header, rest)) = held.split_at_checked(HEADER) else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let kind = Kind::read(header[4]).ok_or(FrameError::UnknownKind(header[4]))?;
        let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { kind, id, payload: payload.to_vec() };
        self.at += HEADER + length;
        Ok(Some(frame))
    }

    /// Id of the frame that comes next, as far as its header is here; after an error, of the one that can't be read.
    pub fn next_id(&self) -> Option<u32> {
        match self.bytes.get(self.at..)? {
            [_, _, _, _, _, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        }
    }

    /// Whether the frames have begun.
    fn skip_noise(&mut self) -> Result<bool, FrameError> {
        let Some(skipped) = self.noise else { return Ok(true) };
        let held = &self.bytes[self.at..];
        if let Some(found) = held.windows(MAGIC.len()).position(|window| window == MAGIC) {
            self.at += found + MAGIC.len();
            self.noise = None;
            return Ok(true);
        }
        let noise = held.len().saturating_sub(MAGIC.len() - 1);
        self.at += noise;
        let skipped = skipped + noise;
        if skipped > MAX_NOISE {
            return Err(FrameError::NoMagic);
        }
        self.noise = Some(skipped);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    #[test]
    fn noise_before_the_first_words_is_skipped_however_it_is_cut() {
        let frame = encode(Kind::Message, 7, b"{}").unwrap();
        let stream = [b"Welcome to web-01\nlandfall-host str\n".as_slice(), MAGIC, &frame].concat();
        for step in 1..stream.len() {
            let mut decoder = Decoder::after_magic();
            let mut read = Vec::new();
            for piece in stream.chunks(step) {
                decoder.feed(piece);
                read.extend(frames(&mut decoder));
            }
            assert_eq!(read, [Frame { kind: Kind::Message, id: 7, payload: b"{}".to_vec() }], "pieces of {step}");
        }
    }

    #[test]
    fn endless_noise_ends_with_an_error() {
        let mut decoder = Decoder::after_magic();
        let error = (0..100).find_map(|_| {
            decoder.feed(&[b'x'; 4096]);
            decoder.next_frame().err()
        });
        assert_eq!(error, Some(FrameError::NoMagic));
    }

    #[test]
    fn a_frame_that_names_a_huge_length_is_refused_before_its_bytes_are_held() {
        let mut decoder = Decoder::at_once();
        decoder.feed(&[0xff, 0xff, 0xff, 0xff, b'M', 0, 0, 0, 1]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(u32::MAX as usize)));
        assert_eq!(decoder.next_id(), Some(1));
        assert_eq!(encode(Kind::Bytes, 1, &vec![0; MAX_FRAME + 1]), Err(FrameError::CannotSend(MAX_FRAME + 1)));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            sent in prop::collection::vec((0u8..3, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            step in 1usize..700,
        ) {
            let kinds = [Kind::Message, Kind::Bytes, Kind::LastBytes];
            let sent: Vec<Frame> = sent
                .into_iter()
                .map(|(kind, id, payload)| Frame { kind: kinds[usize::from(kind)], id, payload })
                .collect();
            let stream: Vec<u8> =
                sent.iter().flat_map(|frame| encode(frame.kind, frame.id, &frame.payload).unwrap()).collect();
            let mut decoder = Decoder::at_once();
            let mut read = Vec::new();
            for piece in stream.chunks(step) {
                decoder.feed(piece);
                read.extend(frames(&mut decoder));
            }
            prop_assert_eq!(read, sent);
            prop_assert_eq!(decoder.held(), 0);
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_never_held_without_bound(noise in prop::collection::vec(any::<u8>(), 0..3000)) {
            let mut decoder = Decoder::at_once();
            for piece in noise.chunks(97) {
                decoder.feed(piece);
                loop {
                    match decoder.next_frame() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(decoder.held() <= HEADER + MAX_FRAME);
            }
        }
    }
}
