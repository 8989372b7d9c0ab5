//! The stream of summaries for `operate`: every vault at once, then each where it changed, at most every 5 s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep_until};
use zeroize::Zeroizing;

use super::internal::Memory;
use super::listener::Visitor;
use crate::gate::Gate;
use crate::model::{RootKeyCare, VaultId, VaultSummary};
use crate::wire::{ServeFrame, SummaryFrame, encode};

/// A vault is told of no more often.
const PAUSE: Duration = Duration::from_secs(5);
/// What comes together is told together.
const BURST: Duration = Duration::from_millis(100);
/// Counting everything costs: a steady flow of changes is looked at this often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Next expiries pass without any change, so all is looked at this often.
const ANYWAY: Duration = Duration::from_secs(60);

/// What the stream needs.
pub(super) struct Context {
    pub(super) gate: Arc<Gate>,
    pub(super) heads: watch::Receiver<u64>,
    pub(super) root_key: watch::Receiver<Option<RootKeyCare>>,
    pub(super) visitor: Arc<Visitor<Memory>>,
    pub(super) token: Zeroizing<String>,
}

/// What was told of each vault, and when.
#[derive(Default)]
struct Told(HashMap<VaultId, (VaultSummary, Instant)>);

impl Told {
    /// Which of `now` are to be told at `at`, and when to look again for those that were told of too lately.
    fn news(&mut self, now: Vec<VaultSummary>, at: Instant) -> (Vec<VaultSummary>, Option<Instant>) {
        let mut again: Option<Instant> = None;
        let mut news = Vec::new();
        let mut told = HashMap::with_capacity(now.len());
        for summary in now {
            let id = summary.vault.clone();
            match self.0.remove(&id) {
                Some((last, when)) if last == summary => {
                    told.insert(id, (last, when));
                }
                Some((last, when)) if at < when + PAUSE => {
                    again = Some(again.map_or(when + PAUSE, |again| again.min(when + PAUSE)));
                    told.insert(id, (last, when));
                }
                _ => {
                    told.insert(id, (summary.clone(), at));
                    news.push(summary);
                }
            }
        }
        self.0 = told;
        (news, again)
    }
}

/// Runs until the client goes, its token ends or the connection leaves.
pub(super) async fn run(mut context: Context, frames: mpsc::Sender<Bytes>) {
    let mut told = Told::default();
    let mut complete = false;
    let mut last_look = Instant::now();
    let mut look_at = last_look;
    let mut pings = interval(Duration::from_secs(ServeFrame::PING_SECONDS));
    loop {
        tokio::select! {
            () = frames.closed() => return,
            () = context.visitor.leaving.cancelled() => return,
            _ = pings.tick() => {
                if let (Ok(place), Ok(ping)) = (frames.try_reserve(), encode(&SummaryFrame::Ping)) {
                    place.send(ping);
                }
            }
            changed = context.heads.changed() => {
                if changed.is_err() {
                    return;
                }
                look_at = look_at.min((Instant::now() + BURST).max(last_look + BETWEEN_LOOKS));
            }
            changed = context.root_key.changed() => {
                if changed.is_err() {
                    return;
                }
                look_at = look_at.min((Instant::now() + BURST).max(last_look + BETWEEN_LOOKS));
            }
            () = sleep_until(look_at) => {
                last_look = Instant::now();
                // Asked anew each time: whoever holds the stream may have lost the right to it.
                let admitted = context.gate.admit_operator(&context.visitor.memory.gate, Some(&context.token)).await;
                let Ok(Ok(mut summaries)) = admitted.map(|operator| context.gate.summaries(&operator)) else { return };
                let care = *context.root_key.borrow_and_update();
                summaries.iter_mut().for_each(|summary| summary.root_key = care);
                let (news, again) = told.news(summaries, last_look);
                for summary in news {
                    if !send(&frames, &SummaryFrame::Vault(summary)).await {
                        return;
                    }
                }
                if !complete {
                    complete = true;
                    if !send(&frames, &SummaryFrame::Complete).await {
                        return;
                    }
                }
                look_at = again.unwrap_or(last_look + ANYWAY);
            }
        }
    }
}

/// Whether the client still takes frames. A summary that does not fit in a frame is left out, and said in the log.
async fn send(frames: &mpsc::Sender<Bytes>, frame: &SummaryFrame) -> bool {
    match encode(frame) {
        Ok(bytes) => frames.send(bytes).await.is_ok(),
        Err(error) => {
            tracing::warn!(%error, "the summary of a vault could not be told");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Namespace, VaultName, VaultRules, VaultSettings};

    fn summary(name: &str, secrets: u64) -> VaultSummary {
        let vault = VaultId {
            namespace: Namespace::parse("team").unwrap(),
            name: VaultName::parse(name).unwrap(),
        };
        VaultSummary {
            vault,
            rules: Some(VaultRules::of(&VaultSettings::default())),
            secrets,
            deleted_secrets: 0,
            next_expiry: None,
            nearest_quota: None,
            owned: Vec::new(),
            damaged: 0,
            refused: false,
            root_key: None,
        }
    }

    #[test]
    fn a_vault_is_told_of_when_it_changes_and_at_most_every_five_seconds() {
        let mut told = Told::default();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(
            told.news(vec![summary("one", 1), summary("two", 1)], start)
                .0
                .len(),
            2
        );
        assert_eq!(
            told.news(vec![summary("one", 1), summary("two", 1)], after(6_000)),
            (vec![], None)
        );
        let (news, again) = told.news(vec![summary("one", 2), summary("two", 1)], after(7_000));
        assert_eq!((news, again), (vec![summary("one", 2)], None));
        let (news, again) = told.news(vec![summary("one", 3), summary("two", 1)], after(8_000));
        assert_eq!((news, again), (vec![], Some(after(12_000))));
        let (news, again) = told.news(vec![summary("one", 4), summary("two", 1)], after(12_000));
        assert_eq!((news, again), (vec![summary("one", 4)], None));
        assert_eq!(told.news(vec![summary("one", 4)], after(12_001)).0, vec![]);
        assert_eq!(
            told.news(vec![summary("one", 4), summary("two", 1)], after(12_002))
                .0,
            vec![summary("two", 1)]
        );
    }
}
