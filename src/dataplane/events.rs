//! What happens to a connection beside its requests: ticks, and that it is to leave.
//!
//! # Why
//! A connection's task runs for each request, and these events are rare. To ask a timer and a token each time whether it was
//! they who woke the task is work for nothing. So they ring a bell of their own, and are asked only after it rang.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The connection is to leave. Told once.
    Leave,
    /// Another tick is over.
    Tick,
}

/// All of them, one after the other.
pub(super) struct Events {
    leaving: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ticks: Interval,
    bell: Option<Arc<Bell>>,
}

/// Wakes the task, and remembers that it did.
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Events {
    /// The first tick comes after one `tick`.
    pub(super) fn new(leaving: CancellationToken, tick: Duration) -> Self {
        let mut ticks = interval_at(Instant::now() + tick, tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            leaving: Some(Box::pin(leaving.cancelled_owned())),
            ticks,
            bell: None,
        }
    }

    /// The next, or the promise to wake the task for it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let bell = match &self.bell {
            Some(bell) if bell.task.will_wake(cx.waker()) => {
                // Cleared before they are asked: what happens while they are asked rings it again.
                if !bell.rang.load(Ordering::Relaxed) || !bell.rang.swap(false, Ordering::Acquire) {
                    return Poll::Pending;
                }
                Arc::clone(bell)
            }
            _ => {
                let (rang, task) = (AtomicBool::new(false), cx.waker().clone());
                Arc::clone(self.bell.insert(Arc::new(Bell { rang, task })))
            }
        };
        let waker = Waker::from(Arc::clone(&bell));
        let event = self.ask(&mut Context::from_waker(&waker));
        if event.is_ready() {
            // The others were not asked, and have promised nothing.
            bell.rang.store(true, Ordering::Release);
        }
        event
    }

    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(cx).is_ready()
        {
            self.leaving = None;
            return Poll::Ready(Event::Leave);
        }
        self.ticks.poll_tick(cx).map(|_| Event::Tick)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn ticks_go_on_and_leaving_is_told_once() {
        let leaving = CancellationToken::new();
        let mut events = Events::new(leaving.clone(), Duration::from_millis(5));
        for _ in 0..3 {
            assert_eq!(poll_fn(|cx| events.poll(cx)).await, Event::Tick);
        }
        leaving.cancel();
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(poll_fn(|cx| events.poll(cx)).await);
        }
        assert_eq!(
            told.iter().filter(|event| **event == Event::Leave).count(),
            1,
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn leaving_wakes_a_task_that_waits() {
        let leaving = CancellationToken::new();
        let mut events = Events::new(leaving.clone(), Duration::from_secs(3_600));
        let waits = timeout(Duration::from_millis(20), poll_fn(|cx| events.poll(cx))).await;
        assert!(waits.is_err(), "nothing has happened");
        let waiting = tokio::spawn(async move { poll_fn(|cx| events.poll(cx)).await });
        tokio::task::yield_now().await;
        leaving.cancel();
        assert_eq!(
            timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap(),
            Event::Leave
        );
    }

    #[tokio::test]
    async fn a_task_that_is_woken_by_others_asks_nobody() {
        let mut events = Events::new(CancellationToken::new(), Duration::from_secs(3_600));
        poll_fn(|cx| {
            for _ in 0..3 {
                assert!(events.poll(cx).is_pending());
            }
            let bell = events.bell.clone().unwrap();
            assert!(!bell.rang.load(Ordering::SeqCst));
            Poll::Ready(())
        })
        .await;
    }
}
