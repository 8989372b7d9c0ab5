//! What those who hold a stream open must look at again.

use tokio::sync::{broadcast, watch};

use crate::engine::HeadChanged;

/// Something changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// Vaults, policies, pods or accounts: whoever was allowed may no longer be.
    World,
    /// One object of one vault.
    Head(HeadChanged),
    /// More than could be told one by one.
    Everything,
}

/// The changes since it was made, none missed.
#[derive(Debug)]
pub struct Changes {
    generations: watch::Receiver<u64>,
    heads: broadcast::Receiver<HeadChanged>,
}

impl Changes {
    pub(super) const fn new(
        generations: watch::Receiver<u64>,
        heads: broadcast::Receiver<HeadChanged>,
    ) -> Self {
        Self { generations, heads }
    }

    /// The next change; none when the process ends. May be dropped at any await and asked again.
    pub async fn next(&mut self) -> Option<Change> {
        tokio::select! {
            changed = self.generations.changed() => changed.ok().map(|()| Change::World),
            head = self.heads.recv() => match head {
                Ok(head) => Some(Change::Head(head)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Everything),
                Err(broadcast::error::RecvError::Closed) => None,
            },
        }
    }
}
