//! Whether the addresses of pods come through as they are, told by the one client that is always there: our own operator.
//!
//! Where something between pods and us rewrites addresses, a stolen token can't be told from its owner's, and rules about
//! addresses judge the rewriter.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::model::SourceAddresses;

const UNKNOWN: u8 = 0;
const KEPT: u8 = 1;
const REWRITTEN: u8 = 2;

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct SelfTest(AtomicU8);

impl SelfTest {
    /// The operator called, from its own address or from another. Says whether that is news.
    pub(super) fn saw(&self, own: bool) -> bool {
        let found = if own { KEPT } else { REWRITTEN };
        self.0.swap(found, Ordering::Relaxed) != found
    }

    /// None before the operator called, and where addresses are not to be looked at.
    pub(super) fn finding(&self) -> Option<SourceAddresses> {
        match self.0.load(Ordering::Relaxed) {
            KEPT => Some(SourceAddresses::Kept),
            REWRITTEN => Some(SourceAddresses::Rewritten),
            UNKNOWN.. => None,
        }
    }
}
