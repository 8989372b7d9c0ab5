//! Requests of clients that were done lately: what makes their repetition safe.

use std::collections::VecDeque;

use crate::model::{UnixSeconds, Version};

/// What a request is known by: a keyed hash of its id, its caller and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) struct RequestMark(pub(in crate::engine) [u8; 16]);

/// A request that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct DoneRequest {
    pub(in crate::engine) mark: RequestMark,
    /// The version that it made or changed, if it did.
    pub(in crate::engine) version: Option<Version>,
    pub(in crate::engine) at: UnixSeconds,
}

/// The newest of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct DoneRequests(VecDeque<DoneRequest>);

impl DoneRequests {
    /// How many are kept.
    const KEPT: usize = 16;
    /// For how long a repetition is told what came of the first, in seconds.
    const SECONDS: i64 = 300;

    pub(in crate::engine) fn push(&mut self, request: DoneRequest) {
        self.0.push_back(request);
        while self.0.len() > Self::KEPT {
            self.0.pop_front();
        }
    }

    pub(in crate::engine) fn find(&self, mark: RequestMark, now: UnixSeconds) -> Option<&DoneRequest> {
        self.0
            .iter()
            .rev()
            .find(|done| done.mark == mark && Self::counts(done, now))
    }

    /// Forgets those of which no repetition comes any more.
    pub(in crate::engine) fn forget(&mut self, now: UnixSeconds) {
        self.0.retain(|done| Self::counts(done, now));
    }

    pub(in crate::engine) fn iter(&self) -> impl ExactSizeIterator<Item = &DoneRequest> {
        self.0.iter()
    }

    fn counts(done: &DoneRequest, now: UnixSeconds) -> bool {
        now < done.at.plus(Self::SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(mark: u8, at: i64) -> DoneRequest {
        DoneRequest {
            mark: RequestMark([mark; 16]),
            version: None,
            at: UnixSeconds(at),
        }
    }

    #[test]
    fn the_newest_16_requests_count_for_five_minutes() {
        let mut requests = DoneRequests::default();
        (0..20).for_each(|i| requests.push(done(i, 1000 + i64::from(i))));
        let found = |mark, now| requests.find(RequestMark([mark; 16]), UnixSeconds(now)).is_some();
        assert_eq!(requests.iter().len(), 16);
        assert!(!found(3, 1020) && found(4, 1020) && found(19, 1020));
        assert!(found(4, 1303) && !found(4, 1304) && found(5, 1304));
        let mut later = requests.clone();
        later.forget(UnixSeconds(1310));
        assert_eq!(later.iter().len(), 9);
    }
}
