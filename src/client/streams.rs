//! The two streams: frames of a projection, and summaries.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame as HttpFrame, Incoming, SizeHint};
use tokio::sync::mpsc;

use super::ClientError;
use crate::model::SecretBytes;
use crate::wire::{Frame, FrameDecoder, NodeFrame, ServeFrame, SummaryFrame, encode};

/// Each stream carries something every 10 s; after thrice that the peer is taken for dead.
const SILENCE: Duration = Duration::from_secs(3 * ServeFrame::PING_SECONDS);

/// What a request sends: something whole, or a stream that stays open.
pub(super) struct RequestBody {
    first: Option<Bytes>,
    more: Option<mpsc::Receiver<Bytes>>,
}

impl RequestBody {
    pub(super) const fn whole(body: Bytes) -> Self {
        Self {
            first: Some(body),
            more: None,
        }
    }

    pub(super) fn open(first: Bytes) -> (TokenSender, Self) {
        let (frames, more) = mpsc::channel(1);
        (
            TokenSender { frames },
            Self {
                first: Some(first),
                more: Some(more),
            },
        )
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(HttpFrame::data(first))));
        }
        match &mut self.more {
            Some(more) => more
                .poll_recv(cx)
                .map(|frame| frame.map(|frame| Ok(HttpFrame::data(frame)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.more.is_none() && self.first.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.more) {
            (Some(first), None) => SizeHint::with_exact(u64::try_from(first.len()).unwrap_or(u64::MAX)),
            (None, None) => SizeHint::with_exact(0),
            (_, Some(_)) => SizeHint::default(),
        }
    }
}

/// Swaps the workload's token of an open projection. Dropping it ends the stream.
#[derive(Debug)]
pub struct TokenSender {
    frames: mpsc::Sender<Bytes>,
}

impl TokenSender {
    /// Hands a younger token of the same workload pod over.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if the stream is no more, [`ClientError::Frame`] for a token that is too long.
    pub async fn send(&self, token: SecretBytes) -> Result<(), ClientError> {
        let frame = encode(&NodeFrame::Token(token)).map_err(ClientError::Frame)?;
        self.frames.send(frame).await.map_err(|_| ClientError::Ended)
    }
}

/// What `serve` says about one volume. Dropping it ends the stream.
#[derive(Debug)]
pub struct Projection(Frames<ServeFrame>);

impl Projection {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Frames::new(body))
    }

    /// The next frame that says something; none when `serve` ended the stream. May be dropped at any await.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] when nothing came for 30 s, not even a ping; [`ClientError::Broken`],
    /// [`ClientError::Frame`]. After an error the stream is over.
    pub async fn next(&mut self) -> Result<Option<ServeFrame>, ClientError> {
        loop {
            match self.0.next().await? {
                Some(ServeFrame::Ping) => {}
                other => return Ok(other),
            }
        }
    }
}

/// The stream of summaries. Dropping it ends it.
#[derive(Debug)]
pub struct Summaries(Frames<SummaryFrame>);

impl Summaries {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Frames::new(body))
    }

    /// The next frame that says something; none when `serve` ended the stream. May be dropped at any await.
    ///
    /// # Errors
    /// As [`Projection::next`].
    pub async fn next(&mut self) -> Result<Option<SummaryFrame>, ClientError> {
        loop {
            match self.0.next().await? {
                Some(SummaryFrame::Ping) => {}
                other => return Ok(other),
            }
        }
    }
}

struct Frames<F> {
    body: Incoming,
    decoder: FrameDecoder<F>,
}

impl<F> std::fmt::Debug for Frames<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames")
    }
}

impl<F: Frame> Frames<F> {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            decoder: FrameDecoder::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<F>, ClientError> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(ClientError::Frame)? {
                return Ok(Some(frame));
            }
            let arrived = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match arrived.map_err(|_| ClientError::TimedOut)? {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
                Some(Err(error)) => return Err(ClientError::Broken(error)),
                None => return self.decoder.finish().map(|()| None).map_err(ClientError::Frame),
            }
        }
    }
}
