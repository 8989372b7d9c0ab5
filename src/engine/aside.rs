//! Work that takes long: on threads of its own, a few at once, so that no other request waits for it.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use super::Error;

/// Where such work is done.
pub(super) struct Aside {
    turns: Arc<Semaphore>,
    /// None in tests, which do it where they are.
    threads: bool,
}

impl Aside {
    /// As many threads as there are processors, but for one that stays for everybody else.
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            turns: Arc::new(Semaphore::new(processors.saturating_sub(1).max(1))),
            threads: true,
        }
    }

    #[cfg(test)]
    pub(super) fn here() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(1)),
            threads: false,
        }
    }

    /// Keeps everybody from having a turn.
    #[cfg(test)]
    pub(super) fn stop(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(self.turns.available_permits()).unwrap();
        self.turns.try_acquire_many(all).unwrap()
    }

    /// Does the work once it has a turn. Work that was begun is ended also if nobody waits for it any more.
    ///
    /// # Errors
    /// [`Error::Contention`] while the process ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Error::Contention)?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        if !self.threads {
            return Ok(work());
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Ok(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Contention),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn it_is_done_on_another_thread_and_no_more_at_once_than_there_are_turns() {
        let aside = Aside::new();
        let there = aside.run(|| thread::current().id()).await.unwrap();
        assert_ne!(there, thread::current().id());
        let all = aside.stop();
        let mut waiting = Box::pin(aside.run(|| 7));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(all);
        assert_eq!(waiting.await, Ok(7));
    }
}
