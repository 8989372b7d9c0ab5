//! One volume's life: a task that keeps its stream open and its files as `serve` last said, until it is stopped.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::files::{Device, FilesError, Written};
use super::host::Host;
use super::status::{Answer, Status, for_a_person};
use super::upstream::{Lost, Stream};
use super::volume::Volume;
use crate::model::{Kind, SecretBytes};
use crate::wire::{FilePlan, NodeFrame, Open, Refused, ServeFrame, Unavailable};

/// Longest wait for a token to be on its way.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running volume. Dropping it stops the task some time soon; [`Worker::stop`] waits for it.
pub(super) struct Worker {
    pub(super) volume: Arc<Volume>,
    pub(super) status: watch::Receiver<Status>,
    tokens: watch::Sender<Arc<SecretBytes>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts a volume that is mounted already, or is to be.
    pub(super) fn start(
        host: &Arc<Host>,
        volume: Volume,
        token: SecretBytes,
        mounted: Option<Device>,
    ) -> Self {
        let volume = Arc::new(volume);
        let answer = if mounted.is_some() {
            Answer::Files
        } else {
            Answer::Nothing
        };
        let (told, status) = watch::channel(Status {
            mounted,
            answer,
            refused_since: None,
        });
        let (tokens, token) = watch::channel(Arc::new(token));
        let stop = CancellationToken::new();
        let task = Task {
            host: Arc::clone(host),
            volume: Arc::clone(&volume),
            token,
            status: told,
            stop: stop.clone(),
            mounted,
            changed: None,
            sweep_at: None,
        };
        Self {
            volume,
            status,
            tokens,
            stop,
            task: tokio::spawn(task.run()),
        }
    }

    /// From now on this token is used.
    pub(super) fn swap_token(&self, token: SecretBytes) {
        self.tokens.send_if_modified(|current| {
            let younger = current.expose() != token.expose();
            if younger {
                *current = Arc::new(token);
            }
            younger
        });
    }

    /// Stops it. When this returns, it touches the volume no more.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!(volume = %self.volume.id, "the task of a volume ended in a defect");
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Whoever waits learns that nobody works for it any more: the channel closes.
        self.stop.cancel();
    }
}

struct Task {
    host: Arc<Host>,
    volume: Arc<Volume>,
    token: watch::Receiver<Arc<SecretBytes>>,
    status: watch::Sender<Status>,
    stop: CancellationToken,
    mounted: Option<Device>,
    /// When the files changed last.
    changed: Option<Instant>,
    /// When what was replaced is due to go.
    sweep_at: Option<Instant>,
}

/// How a stream ended.
enum End {
    /// This volume is stopped.
    Stopped,
    /// What was mounted is mounted no more.
    Gone,
    /// Open the next, no sooner than this.
    Lost { retry_after: Duration },
}

impl Task {
    async fn run(mut self) {
        if self.mounted.is_some() {
            // What the process before had no time for.
            self.sweep_at = Some(Instant::now() + self.host.times.sweep);
            // A node's volumes, all resumed at once, do not all ask at once.
            let pause = spread(&self.volume, 0, self.host.times.first_pause);
            if self.wait(pause).await.is_err() {
                return;
            }
        }
        let mut failures = 0u32;
        loop {
            let begun = Instant::now();
            match self.follow().await {
                End::Stopped => return,
                End::Gone => {
                    tracing::warn!(volume = %self.volume.id, "the volume is no longer mounted; it is followed no longer");
                    return;
                }
                End::Lost { retry_after } => {
                    let steady = begun.elapsed() >= self.host.times.steady;
                    failures = if steady { 0 } else { failures.saturating_add(1) };
                    let pause = self.pause(failures).max(retry_after.min(self.longest_pause()));
                    if self.wait(pause).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn longest_pause(&self) -> Duration {
        if self.mounted.is_some() {
            self.host.times.mounted_pause
        } else {
            self.host.times.waiting_pause
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let grown = self
            .host
            .times
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(10));
        let pause = grown.min(self.longest_pause());
        pause / 2 + spread(&self.volume, failures, pause / 2)
    }

    /// Waits, but no longer than until there is a younger token. An error means: stop.
    async fn wait(&mut self, pause: Duration) -> Result<(), ()> {
        let end = Instant::now() + pause;
        loop {
            let sweep_at = self.sweep_at;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(()),
                changed = self.token.changed() => {
                    self.token.mark_changed();
                    return changed.map_err(|_| ());
                }
                () = at(sweep_at) => self.sweep().await,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Opens a stream and does what it says until it ends.
    async fn follow(&mut self) -> End {
        self.remember().await;
        let stop = self.stop.clone();
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            opened = self.open() => opened,
        };
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(lost) => {
                self.hear_lost(&lost);
                return End::Lost {
                    retry_after: Duration::ZERO,
                };
            }
        };
        let _counted = self.host.metrics.stream();
        // Only the latest files count; none while the last change is too young.
        let mut latest = None;
        let mut retry_after = Duration::ZERO;
        loop {
            let change_at = latest.as_ref().map(|_| self.may_change_at());
            let sweep_at = self.sweep_at;
            let frame = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                changed = self.token.changed() => {
                    if changed.is_err() {
                        return End::Stopped;
                    }
                    if self.send_token(stream.as_mut()).await.is_err() {
                        break;
                    }
                    continue;
                }
                () = at(change_at) => {
                    if let Err(end) = self.change(latest.take()).await {
                        return end;
                    }
                    continue;
                }
                () = at(sweep_at) => {
                    self.sweep().await;
                    continue;
                }
                frame = stream.next() => frame,
            };
            match frame {
                Ok(Some(ServeFrame::Files(plan))) => latest = Some(plan),
                Ok(Some(ServeFrame::Ping)) => {}
                Ok(Some(ServeFrame::Refused(refused))) => {
                    latest = None;
                    if refused.kind == Kind::Unauthenticated {
                        // The token has ended, most often; a younger one comes from the kubelet.
                        retry_after = self.longest_pause();
                    }
                    self.hear_refused(&refused);
                }
                Ok(Some(ServeFrame::Unavailable(Unavailable {
                    message,
                    retry_after_seconds,
                }))) => {
                    retry_after = Duration::from_secs(retry_after_seconds.into());
                    self.hear_unavailable(&message);
                }
                Ok(Some(ServeFrame::PodEnding)) => self.hear_ending(),
                Ok(None) => break,
                Err(lost) => {
                    self.hear_lost(&lost);
                    break;
                }
            }
        }
        // What was said before the end still counts.
        match self.change(latest).await {
            Ok(()) => End::Lost { retry_after },
            Err(end) => end,
        }
    }

    fn may_change_at(&self) -> Instant {
        self.changed
            .map_or_else(Instant::now, |last| last + self.host.times.between_changes)
    }

    async fn change(&mut self, plan: Option<FilePlan>) -> Result<(), End> {
        let Some(plan) = plan else { return Ok(()) };
        match self.show(plan).await {
            Ok(()) => Ok(()),
            Err(FilesError::Gone) if self.mounted.is_some() => Err(End::Gone),
            Err(error) => {
                self.hear_failed(error);
                Err(End::Lost {
                    retry_after: Duration::ZERO,
                })
            }
        }
    }

    async fn open(&mut self) -> Result<Box<dyn Stream>, Lost> {
        let token = Arc::clone(&self.token.borrow_and_update());
        let open = Open {
            volume: self.volume.id.as_str().to_owned(),
            vault: self.volume.vault.clone(),
            objects: self.volume.objects.clone(),
            token: SecretBytes::new(token.expose().to_vec()),
            mounted: self.mounted.is_some(),
        };
        timeout(self.host.times.open, self.host.upstream.open(open))
            .await
            .unwrap_or_else(|_| {
                Err(Lost {
                    kind: Kind::Unavailable,
                    reason: "the internal listener does not answer".to_owned(),
                })
            })
    }

    async fn send_token(&mut self, stream: &mut dyn Stream) -> Result<(), ()> {
        let token = Arc::clone(&self.token.borrow_and_update());
        if token.len() > NodeFrame::MAX_TOKEN {
            return Ok(());
        }
        self.remember().await;
        let sent = timeout(
            TOKEN_TIMEOUT,
            stream.token(SecretBytes::new(token.expose().to_vec())),
        )
        .await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// Keeps what the next process needs, once there is something mounted.
    async fn remember(&self) {
        let Some(device) = self.mounted else { return };
        let (volume, token) = (Arc::clone(&self.volume), Arc::clone(&self.token.borrow()));
        if let Err(error) = self
            .host
            .step(move |host| host.remember(&volume, device, &token))
            .await
        {
            tracing::warn!(volume = %self.volume.id, %error, "the volume's token cannot be kept");
        }
    }

    async fn show(&mut self, plan: FilePlan) -> Result<(), FilesError> {
        let (volume, mounted, token) = (
            Arc::clone(&self.volume),
            self.mounted,
            Arc::clone(&self.token.borrow()),
        );
        let shown = self
            .host
            .step(move |host| {
                let (device, written) = host.show(&volume, mounted, &plan)?;
                if mounted.is_none() {
                    host.remember(&volume, device, &token)?;
                }
                Ok((device, written))
            })
            .await;
        if mounted.is_some() && !matches!(shown, Ok((_, Written::Same))) {
            self.host
                .metrics
                .file_update(shown.as_ref().err().map(|error| error.kind()));
        }
        let (device, written) = shown?;
        self.mounted = Some(device);
        if written == Written::Changed {
            let now = Instant::now();
            self.changed = Some(now);
            self.sweep_at = Some(now + self.host.times.sweep);
            let pod = &self.volume.pod;
            tracing::info!(
                volume = %self.volume.id, namespace = pod.namespace, pod = pod.name,
                first = mounted.is_none(), "the volume's files are current"
            );
        }
        self.tell(|status| {
            *status = Status {
                mounted: Some(device),
                answer: Answer::Files,
                refused_since: None,
            };
        });
        Ok(())
    }

    async fn sweep(&mut self) {
        self.sweep_at = None;
        let Some(device) = self.mounted else { return };
        let volume = Arc::clone(&self.volume);
        if let Err(error) = self.host.step(move |host| host.sweep(&volume, device)).await {
            tracing::warn!(volume = %self.volume.id, %error, "replaced files cannot be removed");
        }
    }

    /// Whether that changed anything.
    fn tell(&self, change: impl FnOnce(&mut Status)) -> bool {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        })
    }

    fn hear_refused(&self, refused: &Refused) {
        let message = for_a_person(&refused.message);
        let kind = refused.kind;
        let pod = &self.volume.pod;
        let news = self.mounted.is_some()
            && self.status.borrow().answer
                != Answer::Refused {
                    kind,
                    message: Arc::clone(&message),
                };
        if news && kind == Kind::Unauthenticated {
            // How every pod ends: its token does before the kubelet unmounts. If it lasts, its age is measured.
            tracing::info!(
                volume = %self.volume.id, namespace = pod.namespace, pod = pod.name,
                "the pod's token is accepted no more; the mounted files stay as they are"
            );
        } else if news {
            self.host.metrics.file_update(Some(kind));
            tracing::warn!(
                volume = %self.volume.id, namespace = pod.namespace, pod = pod.name, reason = kind.reason(),
                "access was refused; the mounted files stay at their last value"
            );
        }
        self.tell(|status| {
            if status.mounted.is_some() {
                status.refused_since.get_or_insert_with(Instant::now);
            }
            status.answer = Answer::Refused { kind, message };
        });
    }

    fn hear_unavailable(&self, message: &str) {
        let message = for_a_person(message);
        self.tell(|status| status.answer = Answer::Unavailable { message });
    }

    fn hear_ending(&self) {
        self.tell(|status| {
            if status.mounted.is_none() {
                status.answer = Answer::PodEnding;
            }
        });
    }

    /// A refusal is better known than that nobody answers.
    fn hear_lost(&self, lost: &Lost) {
        let message = for_a_person(&lost.reason);
        let news = self.tell(|status| {
            if !matches!(status.answer, Answer::Refused { .. } | Answer::PodEnding) {
                status.answer = Answer::Unavailable { message };
            }
        });
        if news {
            tracing::info!(volume = %self.volume.id, reason = %lost.reason, "no stream to the data plane");
        }
    }

    fn hear_failed(&self, error: FilesError) {
        tracing::warn!(volume = %self.volume.id, %error, "the volume's files cannot be written");
        self.tell(|status| status.answer = Answer::Failed(error));
    }
}

/// When that time comes; never, if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A part of `most` that differs from volume to volume, so that a node's volumes do not all act at once.
fn spread(volume: &Volume, attempt: u32, most: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (volume.id.as_str(), attempt).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 1_000).unwrap_or_default();
    most.saturating_mul(thousandths) / 1_000
}
