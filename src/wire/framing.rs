//! Frames of a length and a payload, cut from a body that arrives in pieces of any size.

use std::marker::PhantomData;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::model::Kind;

/// Length of the length.
const HEADER: usize = 4;

/// Why bytes are not a frame, or a message does not fit in one. It never holds the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// The payload is longer than this kind of frame may be.
    #[error("a frame is longer than its kind allows")]
    TooLarge,
    /// The payload is not a message of this kind, or one of its parts breaks a rule.
    #[error("a frame does not hold what its kind asks for")]
    Malformed,
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
}

impl InvalidFrame {
    /// Always [`Kind::Invalid`].
    #[must_use]
    pub const fn kind(self) -> Kind {
        Kind::Invalid
    }
}

/// A message that travels in a frame.
pub trait Frame: Sized {
    /// The longest payload, in bytes.
    const MAX: usize;

    /// About how many bytes [`Frame::write`] appends, so that secrets are not copied by a growing buffer.
    fn size(&self) -> usize;

    /// Appends the payload.
    ///
    /// # Errors
    /// [`InvalidFrame::Malformed`] if the message cannot be written.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidFrame>;

    /// Parses a whole payload.
    ///
    /// # Errors
    /// [`InvalidFrame::Malformed`].
    fn read(payload: &[u8]) -> Result<Self, InvalidFrame>;
}

/// One frame with its length, as it goes on the wire. The buffer is wiped when its last reference is dropped.
///
/// # Errors
/// [`InvalidFrame::TooLarge`], [`InvalidFrame::Malformed`].
pub fn encode<F: Frame>(frame: &F) -> Result<Bytes, InvalidFrame> {
    let mut out = Vec::with_capacity(HEADER.saturating_add(frame.size()));
    out.extend_from_slice(&[0; HEADER]);
    let written = frame.write(&mut out);
    let wiped = WipedBuffer(Zeroizing::new(out));
    written?;
    wiped.with_length(F::MAX)
}

struct WipedBuffer(Zeroizing<Vec<u8>>);

impl WipedBuffer {
    fn with_length(mut self, max: usize) -> Result<Bytes, InvalidFrame> {
        let length = self.0.len().saturating_sub(HEADER);
        let header = u32::try_from(length)
            .ok()
            .filter(|_| length <= max)
            .ok_or(InvalidFrame::TooLarge)?;
        if let Some(place) = self.0.first_chunk_mut::<HEADER>() {
            *place = header.to_be_bytes();
        }
        Ok(Bytes::from_owner(self))
    }
}

impl AsRef<[u8]> for WipedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Cuts a body into frames of one kind. It holds at most one frame beyond what was pushed last.
pub struct FrameDecoder<F> {
    buffer: Zeroizing<Vec<u8>>,
    frames: PhantomData<fn() -> F>,
}

impl<F: Frame> Default for FrameDecoder<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frame> FrameDecoder<F> {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: Zeroizing::default(),
            frames: PhantomData,
        }
    }

    /// Takes what arrived. Call [`FrameDecoder::next_frame`] until it has none before pushing more.
    pub fn push(&mut self, arrived: &[u8]) {
        let needed = self.buffer.len().saturating_add(arrived.len());
        if needed > self.buffer.capacity() {
            // A growing Vec frees its old buffer unwiped.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(self.buffer.capacity() * 2)));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.extend_from_slice(arrived);
    }

    /// The next whole frame, if one has arrived. After an error the stream cannot be read further.
    ///
    /// # Errors
    /// [`InvalidFrame::TooLarge`] as soon as the length says so, [`InvalidFrame::Malformed`].
    pub fn next_frame(&mut self) -> Result<Option<F>, InvalidFrame> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).map_err(|_| InvalidFrame::TooLarge)?;
        if length > F::MAX {
            return Err(InvalidFrame::TooLarge);
        }
        let end = HEADER.saturating_add(length);
        let Some(payload) = self.buffer.get(HEADER..end) else {
            return Ok(None);
        };
        let frame = F::read(payload)?;
        let mut rest = Zeroizing::new(Vec::with_capacity(self.buffer.len().saturating_sub(end)));
        rest.extend_from_slice(self.buffer.get(end..).unwrap_or_default());
        self.buffer = rest;
        Ok(Some(frame))
    }

    /// Call when the body has ended.
    ///
    /// # Errors
    /// [`InvalidFrame::Truncated`] if it ended within a frame.
    pub fn finish(&self) -> Result<(), InvalidFrame> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(InvalidFrame::Truncated)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Clone)]
    struct Text(String);

    impl Frame for Text {
        const MAX: usize = 64;

        fn size(&self) -> usize {
            self.0.len()
        }

        fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
            out.extend_from_slice(self.0.as_bytes());
            Ok(())
        }

        fn read(payload: &[u8]) -> Result<Self, InvalidFrame> {
            String::from_utf8(payload.to_vec())
                .map(Self)
                .map_err(|_| InvalidFrame::Malformed)
        }
    }

    #[test]
    fn a_frame_beyond_its_bound_is_neither_written_nor_read() {
        assert_eq!(encode(&Text("x".repeat(65))).unwrap_err(), InvalidFrame::TooLarge);
        let mut decoder = FrameDecoder::<Text>::new();
        decoder.push(&65u32.to_be_bytes());
        assert_eq!(
            decoder.next_frame(),
            Err(InvalidFrame::TooLarge),
            "before any of the payload has arrived"
        );
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_told_from_one_that_ends_after_it() {
        let whole = encode(&Text("hello".into())).unwrap();
        let mut decoder = FrameDecoder::<Text>::new();
        decoder.push(&whole[..7]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(InvalidFrame::Truncated));
        decoder.push(&whole[7..]);
        assert_eq!(decoder.next_frame(), Ok(Some(Text("hello".into()))));
        assert_eq!(decoder.finish(), Ok(()));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_body_is_cut(
            texts in prop::collection::vec("[a-z]{0,64}", 0..8), piece in 1usize..40,
        ) {
            let texts: Vec<Text> = texts.into_iter().map(Text).collect();
            let body: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
            let mut decoder = FrameDecoder::<Text>::new();
            let mut got = Vec::new();
            for piece in body.chunks(piece) {
                decoder.push(piece);
                while let Some(text) = decoder.next_frame().unwrap() {
                    got.push(text);
                }
            }
            prop_assert_eq!(got, texts);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut decoder = FrameDecoder::<Text>::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
