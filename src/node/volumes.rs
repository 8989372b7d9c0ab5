//! All volumes of this node, and what the kubelet's calls do with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::files::FilesError;
use super::host::Host;
use super::state::Record;
use super::status::{Answer, Status};
use super::volume::{InvalidRequest, Target, Volume, VolumeId};
use super::worker::Worker;
use crate::model::{Kind, SecretBytes};

/// Why a volume is not mounted. Its text stands in the pod's events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishError {
    /// The call itself is wrong.
    #[error("{0}")]
    Request(InvalidRequest),
    /// What the volume asks for can never be: its pod has to be written differently.
    #[error("{0}")]
    Unusable(Arc<str>),
    /// `serve` refuses for now.
    #[error("{0}")]
    Refused(Arc<str>),
    /// `serve` cannot tell for now.
    #[error("Strongroom cannot serve this volume yet; it will be mounted as soon as it can: {0}")]
    Unavailable(Arc<str>),
    /// `serve` has not said anything yet.
    #[error("Strongroom has not answered yet; the volume will be mounted as soon as it does")]
    Unanswered,
    /// This node could not mount it.
    #[error("Strongroom cannot mount this volume on this node: {0}")]
    Files(FilesError),
    /// Nobody needs it any more.
    #[error("the pod is being deleted")]
    PodEnding,
    /// It was unmounted while this call waited, or this process stops.
    #[error("the volume was unmounted meanwhile, or the driver restarts")]
    Ended,
}

impl PublishError {
    /// What the kubelet is told. All but three are worth another try, and must be told so: the kubelet forgets a volume
    /// whose mounting failed for good, and then never asks to have it unmounted.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Request(_) | Self::Unusable(_) => Kind::Invalid,
            Self::PodEnding => Kind::Conflict,
            Self::Refused(_) | Self::Unavailable(_) | Self::Unanswered | Self::Files(_) | Self::Ended => {
                Kind::Unavailable
            }
        }
    }

    fn is_final(&self) -> bool {
        self.kind() != Kind::Unavailable
    }
}

/// The volumes of this node.
pub(super) struct Volumes {
    host: Arc<Host>,
    slots: Mutex<HashMap<VolumeId, Arc<AsyncMutex<Slot>>>>,
    stopping: AtomicBool,
}

/// Place of one volume. Whoever changes it holds its lock, so calls for one volume never overlap.
struct Slot {
    worker: Option<Worker>,
    /// Whether a call for it has failed, so that its pod's events say why.
    told: bool,
    /// When the kubelet last asked for it.
    asked: Instant,
}

impl Volumes {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            slots: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Goes on with what the process before left mounted. What is mounted no more is forgotten.
    pub(super) async fn resume(&self) -> Result<(), FilesError> {
        let (live, stale) = self
            .host
            .step(|host| {
                let is_live = |record: &Record| host.is_live(&record.volume, record.device);
                let (live, stale): (Vec<_>, Vec<_>) = host.state.load()?.into_iter().partition(is_live);
                for record in &stale {
                    host.state.remove(&record.volume.id)?;
                }
                Ok((live, stale.len()))
            })
            .await?;
        tracing::info!(
            volumes = live.len(),
            stale,
            "volumes of the process before are resumed"
        );
        for Record {
            volume,
            device,
            token,
        } in live
        {
            let slot = self.slot(&volume.id);
            slot.lock().await.worker = Some(Worker::start(&self.host, volume, token, Some(device)));
        }
        self.measure();
        Ok(())
    }

    /// Mounts a volume, or hands a mounted one its new token.
    pub(super) async fn publish(&self, volume: Volume, token: SecretBytes) -> Result<(), PublishError> {
        let id = volume.id.clone();
        let slot = self.slot(&id);
        let (status, first) = {
            let mut slot = slot.lock().await;
            if self.stopping.load(Ordering::Acquire) {
                return Err(PublishError::Ended);
            }
            slot.asked = Instant::now();
            let status = self
                .ensure(&mut slot, volume, token)
                .await
                .map_err(PublishError::Files)?;
            (status, !slot.told)
        };
        let Err(error) = self.wait(status, first).await else {
            return Ok(());
        };
        let mut slot = slot.lock().await;
        slot.told = true;
        slot.asked = Instant::now();
        if error.is_final()
            && let Some(worker) = slot
                .worker
                .take_if(|worker| worker.status.borrow().mounted.is_none())
        {
            // The kubelet will not ask to have it unmounted.
            worker.stop().await;
        }
        Err(error)
    }

    /// There is a worker for this volume, with this token.
    async fn ensure(
        &self,
        slot: &mut Slot,
        volume: Volume,
        token: SecretBytes,
    ) -> Result<watch::Receiver<Status>, FilesError> {
        if let Some(worker) = &slot.worker {
            let mounted = worker.status.borrow().mounted;
            let live = match mounted {
                Some(device) => {
                    let volume = Arc::clone(&worker.volume);
                    self.host
                        .step(move |host| Ok(host.is_live(&volume, device)))
                        .await?
                }
                None => true,
            };
            if live && !worker.is_finished() && *worker.volume == volume {
                worker.swap_token(token);
                return Ok(worker.status.clone());
            }
        }
        if let Some(worker) = slot.worker.take() {
            worker.stop().await;
        }
        let asked = volume.clone();
        let mounted = self.host.step(move |host| host.adopt(&asked)).await?;
        let worker = Worker::start(&self.host, volume, token, mounted);
        let status = worker.status.clone();
        slot.worker = Some(worker);
        Ok(status)
    }

    async fn wait(&self, mut status: watch::Receiver<Status>, first: bool) -> Result<(), PublishError> {
        let times = &self.host.times;
        let patience = if first {
            times.first_call
        } else {
            times.later_calls
        };
        let last = status.clone();
        let settled = timeout(
            patience,
            status.wait_for(|status| verdict(status, false).is_some()),
        )
        .await;
        match settled {
            Ok(Ok(status)) => verdict(&status, true).unwrap_or(Err(PublishError::Unanswered)),
            Ok(Err(_)) => Err(PublishError::Ended),
            Err(_) => verdict(&last.borrow(), true).unwrap_or(Err(PublishError::Unanswered)),
        }
    }

    /// Unmounts a volume and forgets it. All is well if it was not known, not mounted, or gone.
    pub(super) async fn unpublish(self: &Arc<Self>, id: VolumeId, target: Target) -> Result<(), FilesError> {
        let volumes = Arc::clone(self);
        // To its end, even if the kubelet goes away meanwhile.
        let done = tokio::spawn(async move {
            let slot = volumes.slot(&id);
            let mut held = slot.lock().await;
            if let Some(worker) = held.worker.take() {
                worker.stop().await;
            }
            let (known, place) = (id.clone(), target);
            let unmounted = volumes
                .host
                .step(move |host| {
                    host.kubelet.unmount(&place)?;
                    host.state.remove(&known)
                })
                .await;
            drop(held);
            volumes.release(&id, &slot);
            volumes.measure();
            unmounted
        });
        done.await.unwrap_or(Err(FilesError::Stopping))
    }

    /// Looks after the volumes until it is cancelled: forgets those that went without a word, and measures.
    pub(super) async fn look_after(&self, stop: &CancellationToken) {
        let mut rounds = interval(self.host.times.round);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rounds.tick() => {}
            }
            for (id, slot) in self.all() {
                // Whoever holds it is busy with it.
                if let Ok(mut held) = slot.try_lock() {
                    self.look_after_one(&id, &mut held).await;
                }
                self.release(&id, &slot);
            }
            self.measure();
        }
    }

    async fn look_after_one(&self, id: &VolumeId, slot: &mut Slot) {
        let Some(worker) = &slot.worker else { return };
        let mounted = worker.status.borrow().mounted;
        let lives = match mounted {
            Some(device) => {
                let volume = Arc::clone(&worker.volume);
                let live = self
                    .host
                    .step(move |host| Ok(host.is_live(&volume, device)))
                    .await;
                // Not being able to look is no reason to forget.
                live.unwrap_or(true) && !worker.is_finished()
            }
            None => slot.asked.elapsed() < self.host.times.forget,
        };
        if lives {
            return;
        }
        if let Some(worker) = slot.worker.take() {
            worker.stop().await;
        }
        let forgotten = id.clone();
        if let Err(error) = self.host.step(move |host| host.state.remove(&forgotten)).await {
            tracing::warn!(volume = %id, %error, "the record of a volume that is gone cannot be removed");
        }
        tracing::info!(volume = %id, "a volume that is no longer there is forgotten");
    }

    /// Stops all, leaving everything mounted and remembered. Calls that wait are answered; no new ones are begun.
    pub(super) async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for (_, slot) in self.all() {
            let worker = slot.lock().await.worker.take();
            if let Some(worker) = worker {
                worker.stop().await;
            }
        }
    }

    fn slot(&self, id: &VolumeId) -> Arc<AsyncMutex<Slot>> {
        let new = || {
            Arc::new(AsyncMutex::new(Slot {
                worker: None,
                told: false,
                asked: Instant::now(),
            }))
        };
        Arc::clone(self.lock().entry(id.clone()).or_insert_with(new))
    }

    fn all(&self) -> Vec<(VolumeId, Arc<AsyncMutex<Slot>>)> {
        self.lock()
            .iter()
            .map(|(id, slot)| (id.clone(), Arc::clone(slot)))
            .collect()
    }

    /// Drops the place of a volume that has no worker, unless somebody is about to use it.
    fn release(&self, id: &VolumeId, slot: &Arc<AsyncMutex<Slot>>) {
        let mut slots = self.lock();
        // The map's and the caller's: nobody else has it, and nobody can get it while the map is locked.
        let unused = Arc::strong_count(slot) == 2 && slot.try_lock().is_ok_and(|slot| slot.worker.is_none());
        if unused {
            slots.remove(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Arc<AsyncMutex<Slot>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self) {
        let mut mounts = 0;
        let mut oldest = std::time::Duration::ZERO;
        for (_, slot) in self.all() {
            let Ok(slot) = slot.try_lock() else { continue };
            let Some(worker) = &slot.worker else { continue };
            let status = worker.status.borrow();
            mounts += usize::from(status.mounted.is_some());
            oldest = oldest.max(status.refused_since.map_or(oldest, |since| since.elapsed()));
        }
        self.host.metrics.mounts(mounts);
        self.host.metrics.oldest_refusal(oldest);
    }
}

/// What a waiting call is told: at once where waiting is over, or when its time is up.
fn verdict(status: &Status, time_is_up: bool) -> Option<Result<(), PublishError>> {
    if status.mounted.is_some() {
        return Some(Ok(()));
    }
    let error = match &status.answer {
        Answer::PodEnding => return Some(Err(PublishError::PodEnding)),
        Answer::Refused {
            kind: Kind::Invalid,
            message,
        } => {
            return Some(Err(PublishError::Unusable(Arc::clone(message))));
        }
        Answer::Refused { message, .. } => PublishError::Refused(Arc::clone(message)),
        Answer::Unavailable { message } => PublishError::Unavailable(Arc::clone(message)),
        Answer::Failed(error) => PublishError::Files(*error),
        Answer::Nothing | Answer::Files => PublishError::Unanswered,
    };
    time_is_up.then_some(Err(error))
}
