//! Bodies, in and out: bounded in bytes, in time and in what all of them hold together; what comes in is wiped afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::fault::Fault;

/// Bytes that one permit of the budget stands for.
const UNIT: usize = 1024;
/// What all bodies together may hold.
const BUDGET: usize = 64 * 1024 * 1024;
/// What all answers together may hold that their clients have not taken yet.
const OUTGOING_BUDGET: usize = 128 * 1024 * 1024;
/// With HTTP/1.1 an answer of this size is of no concern: a connection has one.
const SMALL: usize = 4 * UNIT;
/// How much of a body that nobody wants is read, so that its sender sees the answer rather than a broken connection. It
/// costs less than the handshake of the connection that would come instead.
const DRAINED_BYTES: usize = 128 * 1024 * 1024;
const DRAINED_FOR: Duration = Duration::from_secs(2);

/// Takes bodies in.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    budget: Arc<Semaphore>,
    most: usize,
    within: Duration,
}

impl Intake {
    pub(super) fn new(most: usize, within: Duration) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(BUDGET / UNIT)),
            most,
            within,
        }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// [`Fault`]s of a body: too large, too slow, broken off, encoded, or too many at once.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: &mut Incoming,
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
            return Err(Fault::ENCODED);
        }
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > self.most {
            return Err(Fault::TOO_LARGE);
        }
        timeout(self.within, self.collect(declared, body))
            .await
            .unwrap_or(Err(Fault::TOO_SLOW))
    }

    async fn collect(&self, declared: usize, body: &mut Incoming) -> Result<Zeroizing<Vec<u8>>, Fault> {
        // A declared length costs its sender nothing, so beyond a first piece only what came is paid for.
        let mut buffer = Zeroizing::new(Vec::with_capacity(declared.min(4 * UNIT)));
        let mut held: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Fault::BROKEN_OFF)?;
            let Some(data) = frame.data_ref() else { continue };
            let needed = buffer.len() + data.len();
            if needed > self.most {
                return Err(Fault::TOO_LARGE);
            }
            if needed > buffer.capacity() {
                let capacity = needed.max(buffer.capacity() * 2);
                self.pay(&mut held, capacity)?;
                // A Vec that grows by itself leaves its old bytes behind unwiped.
                let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
                larger.extend_from_slice(&buffer);
                buffer = larger;
            }
            buffer.extend_from_slice(data);
        }
        drop(held);
        Ok(buffer)
    }

    fn pay(&self, held: &mut Option<OwnedSemaphorePermit>, capacity: usize) -> Result<(), Fault> {
        let paid = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(capacity.div_ceil(UNIT).saturating_sub(paid)).map_err(|_| Fault::BUSY)?;
        let permit = Arc::clone(&self.budget)
            .try_acquire_many_owned(more)
            .map_err(|_| Fault::BUSY)?;
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }
}

/// Lets answers out.
#[derive(Debug)]
pub(super) struct Outlet(Arc<Semaphore>);

impl Default for Outlet {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OUTGOING_BUDGET / UNIT)))
    }
}

impl Outlet {
    /// The same bytes, counted until the connection has sent them. With HTTP/2 a client decides when that is, for each of
    /// its streams.
    ///
    /// # Errors
    /// [`Fault::BUSY`].
    pub(super) fn count(&self, version: Version, data: Bytes) -> Result<Bytes, Fault> {
        if version < Version::HTTP_2 && data.len() <= SMALL {
            return Ok(data);
        }
        let units = u32::try_from(data.len().div_ceil(UNIT)).map_err(|_| Fault::INTERNAL)?;
        let permit = Arc::clone(&self.0)
            .try_acquire_many_owned(units)
            .map_err(|_| Fault::BUSY)?;
        Ok(Bytes::from_owner(Counted {
            data,
            _permit: permit,
        }))
    }
}

struct Counted {
    data: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Does with a body that nobody wants what keeps its connection well-behaved. With HTTP/2 the stream alone is given up.
/// With HTTP/1.1 a little is read beside the answer; what is longer than that ends the connection.
pub(super) fn discard(version: Version, mut body: Incoming) {
    if version >= Version::HTTP_2 || body.is_end_stream() {
        return;
    }
    tokio::spawn(timeout(DRAINED_FOR, async move {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            match frame
                .data_ref()
                .map_or(Some(left), |data| left.checked_sub(data.len()))
            {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }));
}
