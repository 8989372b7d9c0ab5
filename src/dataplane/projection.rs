//! One mounted volume: what its pod may have is decided now, and again whenever that may have changed.
//!
//! # Why
//! A stream holds no right and no value. What it tells was decided at that moment, as the workload pod, through the gate
//! and on record; what it remembers is which versions it told, so that a change elsewhere costs no delivery.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::fault::Fault;
use super::hub::{Hub, Subscription};
use super::internal::Memory;
use super::jitter;
use super::listener::Visitor;
use crate::gate::{Admitted, Gate, Node, Refusal, Request};
use crate::model::{
    Caller, Kind, Operation, RefusedVolume, Reply, SecretBytes, ServiceAccountCaller, UnixSeconds, VaultId,
    VaultName, Version,
};
use crate::telemetry::Metrics;
use crate::wire::{
    FilePlan, FrameDecoder, InvalidFrame, NodeFrame, ObjectList, Open, PlannedFile, Refused, RequestedSecret,
    ServeFrame, Unavailable, encode,
};

/// How long the first frame may take.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// A write to several secrets of a volume is delivered once.
const BURST: Duration = Duration::from_millis(10);
/// How long the gate may take for all objects of a volume together.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// After an answer that is no answer, how soon to try again, at first and at last.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_AT_MOST: Duration = Duration::from_secs(8);
/// How long a node may leave files unread.
const UNREAD: Duration = Duration::from_secs(30);
/// Streams of a connection that leaves end spread over this time.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Longest message for a person.
const MOST_MESSAGE: usize = 1_000;

/// What the stream needs.
pub(super) struct Context {
    pub(super) gate: Arc<Gate>,
    pub(super) hub: Hub,
    pub(super) trust_bundle: Arc<str>,
    pub(super) refused: mpsc::Sender<RefusedVolume>,
    pub(super) visitor: Arc<Visitor<Memory>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Runs until the node goes, a token ends, or the connection leaves.
pub(super) async fn run(context: Context, node: Node, body: Incoming, frames: mpsc::Sender<Bytes>) {
    let mut incoming = Frames {
        body,
        decoder: FrameDecoder::new(),
    };
    let _open = context.metrics.stream();
    let Ok(Some(NodeFrame::Open(open))) = timeout(OPEN_WITHIN, incoming.next()).await.unwrap_or(Ok(None))
    else {
        return;
    };
    let Open {
        vault,
        objects,
        token,
        mounted,
        ..
    } = open;
    let wish = match Wish::parse(&vault, &objects) {
        Ok(wish) => wish,
        Err(message) => {
            // Nothing will change that but another pod; the node holds it as the answer until then.
            let refused = ServeFrame::Refused(Refused {
                kind: Kind::Invalid,
                message,
            });
            if let Ok(bytes) = encode(&refused) {
                let _ = frames.send(bytes).await;
                idle(&context, &frames).await;
            }
            return;
        }
    };
    let volume = Volume {
        context,
        node,
        wish,
        token,
        frames,
        told: Told::Nothing,
        mounted,
        pod: None,
        foresight: None,
        pod_ending: false,
    };
    volume.run(incoming).await;
}

/// Keeps a stream open that has nothing more to say.
async fn idle(context: &Context, frames: &mpsc::Sender<Bytes>) {
    let mut pings = pings();
    loop {
        tokio::select! {
            () = frames.closed() => return,
            () = context.visitor.leaving.cancelled() => return,
            _ = pings.tick() => ping(frames),
        }
    }
}

fn pings() -> tokio::time::Interval {
    let mut pings = interval(Duration::from_secs(ServeFrame::PING_SECONDS));
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

fn ping(frames: &mpsc::Sender<Bytes>) {
    if let (Ok(place), Ok(ping)) = (frames.try_reserve(), encode(&ServeFrame::Ping)) {
        place.send(ping);
    }
}

/// What a volume asks for.
struct Wish {
    vault: VaultName,
    objects: ObjectList,
}

impl Wish {
    fn parse(vault: &str, objects: &str) -> Result<Self, String> {
        let vault =
            VaultName::parse(vault).map_err(|invalid| format!("volumeAttributes.vault: {invalid}"))?;
        let objects = ObjectList::parse(objects).map_err(|invalid| invalid.to_string())?;
        Ok(Self { vault, objects })
    }
}

/// What the node was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    /// Which versions; a version never changes its value.
    Files(Vec<Version>),
    Refused(Kind, String),
    Unavailable(String),
}

struct Volume {
    context: Context,
    node: Node,
    wish: Wish,
    token: SecretBytes,
    frames: mpsc::Sender<Bytes>,
    told: Told,
    /// Whether the pod has files already.
    mounted: bool,
    /// Whose stream it is, since the first admission.
    pod: Option<ServiceAccountCaller>,
    /// Who was admitted last, and whether policy would have let them.
    foresight: Option<(Admitted, VaultId, Result<(), String>)>,
    pod_ending: bool,
}

/// How a delivery went.
enum Delivered {
    /// The node knows what is so.
    Known,
    /// It could not be decided; try again.
    Later,
    /// The stream is over.
    Over,
}

impl Volume {
    async fn run(mut self, mut incoming: Frames) {
        let mut subscription: Option<Subscription> = None;
        let mut deliver_at = Some(Instant::now());
        let mut pause = RETRY;
        let mut pings = pings();
        let mut unread: Option<(Weak<()>, Instant)> = None;
        let leaving = self.context.visitor.leaving.clone();
        let mut left = pin!(async move {
            leaving.cancelled().await;
            sleep(jitter(LEAVE_WITHIN)).await;
        });
        loop {
            let end_at = self.end_at();
            let bell = subscription
                .as_ref()
                .map(|subscription| Arc::clone(&subscription.bell));
            tokio::select! {
                () = self.frames.closed() => return,
                () = &mut left => return,
                () = sleep_until(end_at) => return,
                frame = incoming.next() => match frame {
                    Ok(Some(NodeFrame::Token(token))) => {
                        self.token = token;
                        deliver_at = Some(Instant::now());
                    }
                    // The node ended its half, or says what it may not.
                    Ok(Some(NodeFrame::Open(_)) | None) | Err(_) => return,
                },
                _ = pings.tick() => {
                    self.tell_pod_ending();
                    ping(&self.frames);
                    if unread.as_ref().is_some_and(|(sent, since)| sent.strong_count() > 0 && since.elapsed() > UNREAD) {
                        return;
                    }
                }
                rung = async { match &bell { Some(bell) => bell.rung().await, None => std::future::pending().await } } => {
                    if rung.objects {
                        deliver_at = Some(earlier(deliver_at, Instant::now() + BURST));
                    }
                    if let Some(pause) = rung.everything {
                        deliver_at = Some(earlier(deliver_at, Instant::now() + pause));
                    }
                    if rung.world && self.is_foreseen_otherwise() {
                        deliver_at = Some(Instant::now());
                    }
                    self.tell_pod_ending();
                }
                () = sleep_until(deliver_at.unwrap_or_else(Instant::now)), if deliver_at.is_some() => {
                    deliver_at = None;
                    let frames = self.frames.clone();
                    let delivered = tokio::select! {
                        () = frames.closed() => return,
                        delivered = self.deliver(&mut subscription, &mut unread) => delivered,
                    };
                    match delivered {
                        Delivered::Known => pause = RETRY,
                        Delivered::Later => {
                            deliver_at = Some(Instant::now() + pause / 2 + jitter(pause / 2));
                            pause = (pause * 2).min(RETRY_AT_MOST);
                        }
                        Delivered::Over => return,
                    }
                }
            }
        }
    }

    /// Decides, and tells the node where that differs from what it was told last.
    async fn deliver(
        &mut self,
        subscription: &mut Option<Subscription>,
        unread: &mut Option<(Weak<()>, Instant)>,
    ) -> Delivered {
        // Files are gathered only when they can be sent, so what is held for slow nodes is bounded and what they get is
        // never old.
        let Ok(place) = Arc::clone(&self.context.visitor.memory.deliveries)
            .acquire_owned()
            .await
        else {
            return Delivered::Over;
        };
        let decided = timeout(ANSWER_WITHIN, self.decide(subscription)).await;
        let (frame, told) = match decided.unwrap_or_else(|_| Err(No::no_answer())) {
            Ok(Some((files, versions))) => (ServeFrame::Files(files), Told::Files(versions)),
            Ok(None) => return Delivered::Over,
            Err(No { kind, message }) if kind == Kind::Unavailable || kind == Kind::Throttled => {
                let unavailable = Unavailable {
                    message: message.clone(),
                    retry_after_seconds: 1,
                };
                (ServeFrame::Unavailable(unavailable), Told::Unavailable(message))
            }
            Err(No { kind, message }) => (
                ServeFrame::Refused(Refused {
                    kind,
                    message: message.clone(),
                }),
                Told::Refused(kind, message),
            ),
        };
        let outcome = match &told {
            Told::Refused(kind, _) => Some(*kind),
            Told::Unavailable(_) => Some(Kind::Unavailable),
            Told::Files(_) | Told::Nothing => None,
        };
        self.tell_pod_ending();
        if told != self.told {
            let bytes = match encode(&frame) {
                Ok(bytes) => bytes,
                Err(InvalidFrame::TooLarge | InvalidFrame::Malformed | InvalidFrame::Truncated) => {
                    return Delivered::Over;
                }
            };
            drop(frame);
            let sent = Arc::new(());
            *unread = Some((Arc::downgrade(&sent), Instant::now()));
            let bytes = Bytes::from_owner(UntilSent {
                bytes,
                _place: place,
                _sent: sent,
            });
            match timeout(UNREAD, self.frames.send(bytes)).await {
                Ok(Ok(())) => {
                    self.context.metrics.delivery(outcome);
                    self.told = told;
                    self.tell_pod();
                }
                Ok(Err(_)) | Err(_) => return Delivered::Over,
            }
        }
        if outcome == Some(Kind::Unavailable) {
            Delivered::Later
        } else {
            Delivered::Known
        }
    }

    /// What the volume's pod may have now. None if the token is another pod's.
    async fn decide(
        &mut self,
        subscription: &mut Option<Subscription>,
    ) -> Result<Option<(FilePlan, Vec<Version>)>, No> {
        let gate = Arc::clone(&self.context.gate);
        self.foresight = None;
        let token = std::str::from_utf8(self.token.expose()).map_err(|_| No::not_text())?;
        let admitted = gate.admit_workload(&self.node, token).await?;
        let Caller::ServiceAccount(caller) = admitted.caller() else {
            return Ok(None);
        };
        if !is_same_pod(self.pod.get_or_insert_with(|| caller.clone()), caller) {
            return Ok(None);
        }
        let vault = VaultId {
            namespace: caller.namespace.clone(),
            name: self.wish.vault.clone(),
        };
        if subscription.is_none() {
            // Before anything is read, so that no change falls between.
            let names = self.wish.objects.items().iter().map(|item| &item.secret);
            *subscription = Some(self.context.hub.subscribe(&vault, names));
        }
        self.foresight = Some((admitted.clone(), vault.clone(), self.foresee(&admitted, &vault)));
        let (mut files, mut versions) = (Vec::new(), Vec::new());
        for item in self.wish.objects.items() {
            let operation = Operation::GetSecret {
                name: item.secret.clone(),
                version: item.version,
            };
            let reply = gate
                .perform(admitted.clone(), Request::new(vault.clone(), operation))
                .await;
            let (file, version) =
                planned(item, reply.map_err(|refusal| No::of(item, refusal))?).ok_or_else(No::defect)?;
            files.push(file);
            versions.push(version);
        }
        let plan = FilePlan::new(files, &self.context.trust_bundle)
            .map_err(|invalid| No::plan(&invalid.to_string()))?;
        Ok(Some((plan, versions)))
    }

    fn foresee(&self, admitted: &Admitted, vault: &VaultId) -> Result<(), String> {
        let Some(item) = self.wish.objects.items().first() else {
            return Ok(());
        };
        let operation = Operation::GetSecret {
            name: item.secret.clone(),
            version: item.version,
        };
        self.context
            .gate
            .foresee(admitted, vault, operation)
            .map_err(|refusal| Fault::from(refusal).message.into_owned())
    }

    /// Whether the decision would now be another than at the last delivery. Asks policy alone: nothing is read, nothing
    /// is on record.
    fn is_foreseen_otherwise(&self) -> bool {
        match &self.foresight {
            Some((admitted, vault, before)) => self.foresee(admitted, vault) != *before,
            // Not even admitted: a pod that the feed had not shown may be there now.
            None => true,
        }
    }

    /// Says once that the pod is being deleted.
    fn tell_pod_ending(&mut self) {
        let ending = match &self.foresight {
            Some((admitted, ..)) if !self.pod_ending => self.context.gate.is_ending(admitted),
            _ => false,
        };
        if !ending {
            return;
        }
        if let (Ok(place), Ok(frame)) = (self.frames.try_reserve(), encode(&ServeFrame::PodEnding)) {
            place.send(frame);
            self.pod_ending = true;
        }
    }

    /// Says on the pod why its files are no longer renewed. A pod that has none hears it from its kubelet, and one whose own
    /// token is not accepted is ending.
    fn tell_pod(&mut self) {
        match &self.told {
            Told::Files(_) => self.mounted = true,
            Told::Refused(kind, message) if self.mounted && *kind != Kind::Unauthenticated => {
                let Some((namespace, pod)) = self
                    .pod
                    .as_ref()
                    .and_then(|caller| Some((caller.namespace.clone(), caller.pod.clone()?)))
                else {
                    return;
                };
                let refused = RefusedVolume {
                    namespace,
                    pod,
                    kind: *kind,
                    message: message.clone(),
                };
                if let Err(mpsc::error::TrySendError::Full(_)) = self.context.refused.try_send(refused) {
                    self.context.metrics.pod_event(Some(Kind::Throttled));
                }
            }
            Told::Refused(..) | Told::Unavailable(_) | Told::Nothing => {}
        }
    }

    /// When the stream's credentials end: the node's, and the workload's as it was admitted last.
    fn end_at(&self) -> Instant {
        let now = self.context.gate.clock().now().wall;
        let workload = self
            .foresight
            .as_ref()
            .and_then(|(admitted, ..)| admitted.expires());
        let end = workload.map_or_else(
            || self.node.expires(),
            |workload| workload.min(self.node.expires()),
        );
        Instant::now() + until(now, end)
    }
}

/// At least a second, so that a token at its very end does not make a loop.
fn until(now: UnixSeconds, end: UnixSeconds) -> Duration {
    Duration::from_secs(
        u64::try_from(end.0.saturating_sub(now.0))
            .unwrap_or_default()
            .clamp(1, 86_400),
    )
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

fn is_same_pod(first: &ServiceAccountCaller, now: &ServiceAccountCaller) -> bool {
    let pod = |caller: &ServiceAccountCaller| caller.pod.as_ref().map(|pod| pod.uid.clone());
    first.uid == now.uid && pod(first) == pod(now)
}

fn planned(item: &RequestedSecret, reply: Reply) -> Option<(PlannedFile, Version)> {
    match reply {
        Reply::Secret(secret) => {
            let file = PlannedFile {
                path: item.path.clone(),
                mode: item.mode,
                content: secret.value?,
            };
            Some((file, secret.version))
        }
        Reply::Deleted(_)
        | Reply::Page(_)
        | Reply::DeletedPage(_)
        | Reply::Purged
        | Reply::Backup(_)
        | Reply::VaultReady
        | Reply::VaultDeleted
        | Reply::NotDue
        | Reply::Owned(_) => None,
    }
}

/// Why there are no files, for the person who reads the pod's events.
struct No {
    kind: Kind,
    message: String,
}

impl No {
    /// Of one object. What an error of the object itself says does not always name it.
    fn of(item: &RequestedSecret, refusal: Refusal) -> Self {
        let kind = refusal.kind();
        let message = Fault::from(refusal).message;
        let name = item.secret.as_written();
        let of_object = !matches!(kind, Kind::Unauthenticated | Kind::Unavailable) && !message.contains(name);
        let message = if of_object {
            format!("secret {name}: {message}")
        } else {
            message.into_owned()
        };
        Self {
            kind,
            message: shortened(message),
        }
    }

    fn plan(message: &str) -> Self {
        Self {
            kind: Kind::Invalid,
            message: shortened(message.to_owned()),
        }
    }

    fn not_text() -> Self {
        Self {
            kind: Kind::Unauthenticated,
            message: "The pod's token is no text.".to_owned(),
        }
    }

    fn no_answer() -> Self {
        Self {
            kind: Kind::Unavailable,
            message: "The vault's store does not answer.".to_owned(),
        }
    }

    fn defect() -> Self {
        Self {
            kind: Kind::Internal,
            message: Fault::INTERNAL.message.into_owned(),
        }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self {
            kind: refusal.kind(),
            message: shortened(Fault::from(refusal).message.into_owned()),
        }
    }
}

fn shortened(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MOST_MESSAGE));
    message
}

/// A frame that keeps its place among the connection's deliveries until it is sent.
struct UntilSent {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
    _sent: Arc<()>,
}

impl AsRef<[u8]> for UntilSent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the node says.
struct Frames {
    body: Incoming,
    decoder: FrameDecoder<NodeFrame>,
}

impl Frames {
    /// The next frame; none when the node ended its half. May be dropped at any await.
    async fn next(&mut self) -> Result<Option<NodeFrame>, InvalidFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_asks_for_nothing_sensible_says_so_to_its_author() {
        let message = |vault: &str, objects: &str| Wish::parse(vault, objects).map(|_| ()).unwrap_err();
        assert!(message("No Vault", "- secret: a").starts_with("volumeAttributes.vault: a vault name has"));
        assert!(message("demo", "").starts_with("objects names no secret"));
        assert!(message("demo", "- secret: ../x").starts_with("item 1 of objects: an object name has"));
        assert!(Wish::parse("demo", "- secret: a").is_ok());
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let cut = shortened("ä".repeat(MOST_MESSAGE));
        assert!(cut.len() <= MOST_MESSAGE && cut.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_stream_ends_with_its_token() {
        let of = |now, end| until(UnixSeconds(now), UnixSeconds(end)).as_secs();
        assert_eq!(
            (of(100, 700), of(100, 100), of(700, 100), of(0, i64::MAX)),
            (600, 1, 1, 86_400)
        );
    }
}
