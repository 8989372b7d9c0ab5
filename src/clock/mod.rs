//! The lifecycle clock: what is due comes to the gate by itself.
//!
//! # Why
//! A vault whose resource is gone is refused at once, but **absence is no order**: it is deleted only once the management
//! plane itself says, by a quorum list while the kind is established, that the resource is not there, and no more vaults an
//! hour than a mistake may cost. A deleted vault or secret goes at its date by our clock **and** by the API server's, after an
//! hour in which this was announced by a clock that cannot jump. What is decided is a pure function (`due`); every step that
//! follows is one compare-and-swap that states what it expects, so that two leaders cannot do it twice.

mod due;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::gate::{Gate, Kept, Refusal, Request};
use crate::model::{DeclaredVaults, Kind, Operation, PurgeVault, Reply, StoredVault};
use crate::telemetry::Metrics;
use due::{Announced, Errand, Limits};

/// How often is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Secrets that are due are looked for less often: that walks over all objects.
const SECRETS_EVERY: Duration = Duration::from_mins(5);
/// Secrets that are purged at one look.
const SECRETS_AT_ONCE: usize = 200;

/// Asks the management plane what it declares, by quorum. The error is for people.
pub type Ask = Box<dyn Fn() -> BoxFuture<'static, Result<DeclaredVaults, String>> + Send + Sync>;

/// Does what is due while this replica leads, for as long as it is polled. `staleness_bound` is the installation's.
pub async fn run(
    gate: Arc<Gate>,
    ask: Ask,
    staleness_bound: Duration,
    metrics: Arc<Metrics>,
    mut leads: watch::Receiver<bool>,
) {
    while leads.wait_for(|leads| *leads).await.is_ok() {
        tracing::info!("this replica runs the lifecycle clock");
        metrics.leads_clock(true);
        let clock = Clock {
            gate: &gate,
            ask: &ask,
            staleness_bound,
            metrics: &metrics,
        };
        tokio::select! {
            never = clock.tick() => match never {},
            _ = leads.wait_for(|leads| !leads) => {}
        }
        metrics.leads_clock(false);
    }
}

struct Clock<'a> {
    gate: &'a Arc<Gate>,
    ask: &'a Ask,
    staleness_bound: Duration,
    metrics: &'a Metrics,
}

impl Clock<'_> {
    async fn tick(&self) -> std::convert::Infallible {
        let mut announced = Announced::default();
        let mut secrets_at: Option<Instant> = None;
        loop {
            let now = self.gate.clock().now().monotonic;
            let with_secrets = secrets_at.is_none_or(|at| now >= at);
            if with_secrets {
                secrets_at = now.checked_add(SECRETS_EVERY);
            }
            if let Err(error) = self.look(&mut announced, with_secrets).await {
                tracing::info!(error, "what is due can't be told; it is looked at again");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, announced: &mut Announced, with_secrets: bool) -> Result<(), String> {
        let told = |refusal: Refusal| refusal.to_string();
        let admitted = self.gate.admit_clock();
        let kept = self.gate.kept(&admitted).map_err(told)?;
        let secrets = match with_secrets {
            true => self.gate.due_secrets(&admitted).map_err(told)?,
            false => Vec::new(),
        };
        if !kept.iter().any(may_be_due) && secrets.is_empty() {
            self.metrics.vault_lifecycle(0, 0);
            return Ok(());
        }
        let declared = (self.ask)().await?;
        let now = self.gate.clock().now();
        let limits = Limits {
            left: &|vaults: &[StoredVault]| self.gate.deletions_left(vaults),
            staleness_bound: self.staleness_bound,
        };
        let due = due::vaults(&kept, &declared, &limits, announced, now);
        let deleted = kept.iter().filter(|kept| kept.vault.deletion.is_some());
        self.metrics.vault_lifecycle(deleted.count(), due.waiting);
        if due.waiting > 0 {
            tracing::warn!(
                waiting = due.waiting,
                "more vaults are without a Vault than may be deleted within an hour: the others wait (DeletionsPaused)"
            );
        }
        for errand in due.errands {
            self.run_errand(errand).await;
        }
        if with_secrets {
            let due = due::secrets(secrets, &declared, announced, now);
            for (vault, name) in due.into_iter().take(SECRETS_AT_ONCE) {
                let request = Request::new(vault, Operation::PurgeDueSecret { name });
                self.told("a deleted secret was purged at its date", request)
                    .await;
            }
        }
        Ok(())
    }

    async fn run_errand(&self, errand: Errand) {
        match errand {
            Errand::Delete(vault) => {
                let request = Request::new(vault.id.clone(), Operation::DeleteVault(vault));
                self.told("a vault whose Vault is gone was deleted", request)
                    .await;
            }
            Errand::Purge { vault, ordered } => {
                let purge = PurgeVault { vault, ordered };
                let request = Request::new(purge.vault.id.clone(), Operation::PurgeVault(purge));
                self.told("a deleted vault was purged", request).await;
            }
        }
    }

    async fn told(&self, done: &'static str, request: Request<'_>) {
        let vault = request.vault.clone();
        match self.gate.perform(self.gate.admit_clock(), request).await {
            Ok(Reply::NotDue) => {}
            Ok(_) => tracing::info!(%vault, done),
            // Its Vault came or went meanwhile.
            Err(refusal) if refusal.kind() == Kind::NotFound => {}
            Err(refusal) => {
                tracing::warn!(%vault, %refusal, "what is due could not be done; it is tried again")
            }
        }
    }
}

/// Whether the management plane has to be asked about it.
const fn may_be_due(kept: &Kept) -> bool {
    kept.vault.deletion.is_some() || !matches!(kept.declared, crate::gate::Declared::Yes)
}
