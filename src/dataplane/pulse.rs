//! Whether a connection is alive in a way that we pay for: counted on the way, judged by a tick.
//!
//! # Why
//! A timer for each request's head costs more than the rest of reading it. So the stream itself counts (a few relaxed
//! stores a request), and each connection looks at its counts every few seconds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::Limits;

/// The counts of one connection.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Requests whose head was read.
    requests: AtomicU32,
    /// Requests whose answer was wholly handed to the connection.
    ended: AtomicU32,
    /// Requests whose answer is not wholly handed to the connection.
    under_way: AtomicU32,
    /// Bytes arrived since the last request's head or end.
    arrived: AtomicU32,
    /// Writes that went through.
    written: AtomicU32,
    /// A write waits for the client to read.
    blocked: AtomicBool,
    /// Somebody proved on it who they are.
    known: AtomicBool,
}

/// Held while a request is answered.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Pulse>);

impl Pulse {
    /// A request's head was read.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests
            .store(self.requests.load(Relaxed).wrapping_add(1), Relaxed);
        self.under_way.fetch_add(1, Relaxed);
        self.arrived.store(0, Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Somebody proved who they are.
    pub(super) fn know(&self) {
        self.known.store(true, Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
        self.0.ended.fetch_add(1, Relaxed);
        self.0.arrived.store(0, Relaxed);
    }
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Keep,
    /// It has been idle long enough: it may finish what is under way.
    Retire,
    /// It holds us up: it is cut.
    Cut,
}

/// Looks at a pulse at every tick.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whether arrived bytes mean that a request's head is on its way: so with HTTP/1, where nothing else arrives.
    heads_alone: bool,
    limits: Limits,
    requests: u32,
    ended: u32,
    written: u32,
    idle: Duration,
    head: Duration,
    blocked: Duration,
    stuck: Duration,
}

impl Watch {
    pub(super) const fn new(limits: Limits, heads_alone: bool) -> Self {
        let zero = Duration::ZERO;
        Self {
            heads_alone,
            limits,
            requests: 0,
            ended: 0,
            written: 0,
            idle: zero,
            head: zero,
            blocked: zero,
            stuck: zero,
        }
    }

    /// How often to look.
    pub(super) fn tick(&self) -> Duration {
        (self.limits.head / 4)
            .min(self.limits.idle_unknown / 4)
            .max(Duration::from_millis(20))
    }

    /// Judges after another `passed`.
    pub(super) fn look(&mut self, pulse: &Pulse, passed: Duration) -> Verdict {
        let (requests, written) = (pulse.requests.load(Relaxed), pulse.written.load(Relaxed));
        let is_new = requests != self.requests;
        let under_way = pulse.under_way.load(Relaxed) > 0;
        let ended = pulse.ended.load(Relaxed);
        let at_rest = !under_way && !is_new;
        let grow = |since: Duration, while_: bool| if while_ { since + passed } else { Duration::ZERO };
        self.idle = grow(self.idle, at_rest);
        self.head = grow(
            self.head,
            at_rest && self.heads_alone && pulse.arrived.load(Relaxed) > 0,
        );
        self.blocked = grow(
            self.blocked,
            pulse.blocked.load(Relaxed) && written == self.written,
        );
        self.stuck = grow(self.stuck, under_way && ended == self.ended);
        (self.requests, self.ended, self.written) = (requests, ended, written);

        let known = pulse.known.load(Relaxed);
        let idle_limit = if known {
            self.limits.idle
        } else {
            self.limits.idle_unknown
        };
        let is_stuck = self.limits.stuck.is_some_and(|limit| self.stuck >= limit);
        if self.head >= self.limits.head || self.blocked >= self.limits.unread || is_stuck {
            Verdict::Cut
        } else if self.idle >= idle_limit {
            Verdict::Retire
        } else {
            Verdict::Keep
        }
    }
}

/// A stream that counts.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Counted<S> {
    pub(super) const fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn note<T>(&self, outcome: Poll<T>) -> Poll<T> {
        if outcome.is_pending() {
            self.pulse.blocked.store(true, Relaxed);
        } else {
            self.pulse
                .written
                .store(self.pulse.written.load(Relaxed).wrapping_add(1), Relaxed);
            self.pulse.blocked.store(false, Relaxed);
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if outcome.is_ready() && buf.filled().len() > before {
            self.pulse.arrived.store(1, Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After how many seconds of the same pulse a verdict other than `Keep` falls.
    fn falls(pulse: &Pulse, heads_alone: bool) -> Option<(u32, Verdict)> {
        let mut watch = Watch::new(Limits::vaults(), heads_alone);
        (1..=600).find_map(|second| match watch.look(pulse, SECOND) {
            Verdict::Keep => None,
            verdict => Some((second, verdict)),
        })
    }

    #[test]
    fn a_head_that_does_not_end_is_cut_after_ten_seconds() {
        let pulse = Arc::new(Pulse::default());
        pulse.arrived.store(1, Relaxed);
        assert_eq!(falls(&pulse, true), Some((10, Verdict::Cut)));
        pulse.know();
        assert_eq!(falls(&pulse, true), Some((10, Verdict::Cut)));
        assert_eq!(falls(&pulse, false), Some((180, Verdict::Retire)));
    }

    #[test]
    fn idle_connections_go_sooner_where_nobody_is_known() {
        let pulse = Arc::new(Pulse::default());
        assert_eq!(falls(&pulse, true), Some((15, Verdict::Retire)));
        pulse.know();
        assert_eq!(falls(&pulse, true), Some((180, Verdict::Retire)));
    }

    #[test]
    fn what_is_under_way_is_left_alone_unless_nobody_reads_it() {
        let pulse = Arc::new(Pulse::default());
        let request = pulse.begin();
        pulse.arrived.store(1, Relaxed);
        assert_eq!(falls(&pulse, true), Some((90, Verdict::Cut)), "but not for ever");
        pulse.blocked.store(true, Relaxed);
        assert_eq!(falls(&pulse, true), Some((30, Verdict::Cut)));
        drop(request);
        assert_eq!(pulse.under_way.load(Relaxed), 0);
    }

    #[test]
    fn each_request_begins_the_idle_time_anew() {
        let pulse = Arc::new(Pulse::default());
        let mut watch = Watch::new(Limits::vaults(), true);
        for _ in 0..100 {
            drop(pulse.begin());
            for _ in 0..14 {
                assert_eq!(watch.look(&pulse, SECOND), Verdict::Keep);
            }
        }
    }
}
