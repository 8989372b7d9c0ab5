//! The node as the kubelet meets it, on real memory file systems. Where none can be mounted (not root), these tests say
//! loudly that they are skipped.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::files::Tmpfs;
use super::upstream::{Lost, Stream};
use super::volume::{PodLabel, Target, Volume, VolumeId};
use super::volumes::PublishError;
use super::*;
use crate::model::{Moment, SecretBytes, UnixSeconds};
use crate::telemetry::metrics::Shown;
use crate::wire::{FileMode, FilePath, FilePlan, Open, PlannedFile, Refused, ServeFrame, Unavailable};

/// Whether this machine lets a test mount; if not, the test passes without having shown anything, and says so.
pub(super) fn can_mount(test: &str) -> bool {
    let can = Tmpfs::create(0o700, 4096, 16).is_ok();
    if !can {
        eprintln!("SKIPPED: {test}: memory file systems can be mounted by root alone");
    }
    can
}

pub(super) fn plan(files: &[(&str, &str)]) -> FilePlan {
    let file = |(path, content): &(&str, &str)| PlannedFile {
        path: FilePath::parse(path).unwrap(),
        mode: FileMode::default(),
        content: SecretBytes::new(content.as_bytes().to_vec()),
    };
    FilePlan::new(files.iter().map(file).collect(), "bundle").unwrap()
}

fn token(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

fn clock() -> Clock {
    Clock::new(|| Moment {
        wall: UnixSeconds(1_795_341_600),
        nanos: 0,
        monotonic: std::time::Instant::now(),
    })
}

/// The other end: hands each stream that is opened to the test.
struct Fake {
    opened: mpsc::UnboundedSender<Opened>,
    down: AtomicBool,
}

struct Opened {
    open: Open,
    say: mpsc::UnboundedSender<Result<ServeFrame, Lost>>,
    tokens: mpsc::UnboundedReceiver<SecretBytes>,
}

impl Opened {
    fn files(&self, files: &[(&str, &str)]) {
        let _ = self.say.send(Ok(ServeFrame::Files(plan(files))));
    }

    fn refuse(&self, kind: Kind, message: &str) {
        let refused = Refused {
            kind,
            message: message.to_owned(),
        };
        let _ = self.say.send(Ok(ServeFrame::Refused(refused)));
    }
}

struct FakeStream {
    hear: mpsc::UnboundedReceiver<Result<ServeFrame, Lost>>,
    tokens: mpsc::UnboundedSender<SecretBytes>,
}

impl Upstream for Fake {
    fn open(&self, open: Open) -> BoxFuture<'_, Result<Box<dyn Stream>, Lost>> {
        Box::pin(async move {
            if self.down.load(Ordering::SeqCst) {
                return Err(Lost {
                    kind: Kind::Unavailable,
                    reason: "nobody there".to_owned(),
                });
            }
            let (say, hear) = mpsc::unbounded_channel();
            let (sent, tokens) = mpsc::unbounded_channel();
            let _ = self.opened.send(Opened { open, say, tokens });
            Ok(Box::new(FakeStream { hear, tokens: sent }) as Box<dyn Stream>)
        })
    }
}

impl Stream for FakeStream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<ServeFrame>, Lost>> {
        Box::pin(async move { self.hear.recv().await.transpose() })
    }

    fn token(&mut self, token: SecretBytes) -> BoxFuture<'_, Result<(), Lost>> {
        let sent = self.tokens.send(token);
        Box::pin(async move {
            sent.map_err(|_| Lost {
                kind: Kind::Unavailable,
                reason: "ended".to_owned(),
            })
        })
    }
}

fn quick() -> Times {
    Times {
        first_call: Duration::from_millis(200),
        later_calls: Duration::from_secs(20),
        open: Duration::from_secs(2),
        between_changes: Duration::from_millis(20),
        sweep: Duration::from_millis(100),
        first_pause: Duration::from_millis(20),
        waiting_pause: Duration::from_millis(100),
        mounted_pause: Duration::from_millis(100),
        steady: Duration::from_millis(200),
        round: Duration::from_millis(100),
        forget: Duration::from_millis(400),
    }
}

/// A kubelet's folder, a driver on it, and the other end in the test's hand.
struct Bench {
    kubelet: TempDir,
    fake: Arc<Fake>,
    streams: mpsc::UnboundedReceiver<Opened>,
    metrics: Arc<Metrics>,
    host: Arc<Host>,
    volumes: Arc<Volumes>,
}

impl Bench {
    fn new() -> Self {
        let kubelet = TempDir::new().unwrap();
        std::fs::create_dir_all(kubelet.path().join("plugins").join(DRIVER)).unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let fake = Arc::new(Fake {
            opened,
            down: AtomicBool::new(false),
        });
        let metrics = Arc::new(Metrics::new(Shown::Node).unwrap());
        let host = Self::host(&kubelet, &fake, &metrics);
        let volumes = Arc::new(Volumes::new(Arc::clone(&host)));
        Self {
            kubelet,
            fake,
            streams,
            metrics,
            host,
            volumes,
        }
    }

    fn host(kubelet: &TempDir, fake: &Arc<Fake>, metrics: &Arc<Metrics>) -> Arc<Host> {
        let folder = Kubelet::open(kubelet.path()).unwrap();
        let state = State::open(&folder, &format!("plugins/{DRIVER}")).unwrap();
        let upstream: Arc<dyn Upstream> = Arc::<Fake>::clone(fake);
        Arc::new(Host {
            kubelet: folder,
            state,
            upstream,
            clock: clock(),
            metrics: Arc::clone(metrics),
            times: quick(),
        })
    }

    /// As after a kill: a new process, with what the last one left on the node.
    async fn restart(&mut self) {
        self.volumes.stop().await;
        self.host = Self::host(&self.kubelet, &self.fake, &self.metrics);
        self.volumes = Arc::new(Volumes::new(Arc::clone(&self.host)));
        self.volumes.resume().await.unwrap();
    }

    /// A volume of the pod `pod`, in the folder that the kubelet made for it.
    fn volume(&self, pod: &str) -> Volume {
        let target = Target::below(&format!("pods/{pod}/volumes/kubernetes.io~csi/vault/mount")).unwrap();
        std::fs::create_dir_all(self.kubelet.path().join(target.folder())).unwrap();
        Volume {
            id: VolumeId::parse(&format!("csi-{pod}")).unwrap(),
            target,
            vault: "demo".to_owned(),
            objects: "- secret: a".to_owned(),
            group: None,
            pod: PodLabel::default(),
        }
    }

    fn path(&self, volume: &Volume) -> PathBuf {
        self.kubelet.path().join(volume.target.relative())
    }

    fn read(&self, volume: &Volume, file: &str) -> String {
        std::fs::read_to_string(self.path(volume).join(file)).unwrap()
    }

    fn publish(&self, volume: &Volume, text: &str) -> tokio::task::JoinHandle<Result<(), PublishError>> {
        let (volumes, volume, token) = (Arc::clone(&self.volumes), volume.clone(), token(text));
        tokio::spawn(async move { volumes.publish(volume, token).await })
    }

    async fn stream(&mut self) -> Opened {
        timeout(Duration::from_secs(5), self.streams.recv())
            .await
            .expect("a stream within 5 s")
            .unwrap()
    }

    async fn mounted(&mut self, pod: &str, content: &str) -> (Volume, Opened) {
        let volume = self.volume(pod);
        let call = self.publish(&volume, "token-1");
        let stream = self.stream().await;
        stream.files(&[("a", content)]);
        call.await.unwrap().unwrap();
        (volume, stream)
    }

    async fn unpublish(&self, volume: &Volume) -> Result<(), FilesError> {
        self.volumes
            .unpublish(volume.id.clone(), volume.target.clone())
            .await
    }

    fn mounts(&self) -> usize {
        let inside = self.kubelet.path().join("pods");
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .filter(|line| line.contains(inside.to_str().unwrap()))
            .count()
    }

    fn metric(&self, name: &str) -> String {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing of a test stays mounted, however it ended.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let here = self.kubelet.path().to_str().unwrap_or("/nowhere").to_owned();
        for point in table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(&here))
        {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Asks until it holds, for at most 5 s; how long it took.
async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_volume_appears_with_all_its_files_and_follows_its_secret() {
    if !can_mount("a_volume_appears_with_all_its_files_and_follows_its_secret") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert_eq!(
        (stream.open.vault.as_str(), stream.open.objects.as_str()),
        ("demo", "- secret: a")
    );
    assert_eq!(stream.open.token.expose(), b"token-1");
    assert!(
        !bench.path(&volume).exists(),
        "nothing is to be seen before there is content"
    );
    stream.files(&[("a", "1"), ("keys/b", "2")]);
    call.await.unwrap().unwrap();
    assert_eq!(
        (bench.read(&volume, "a"), bench.read(&volume, "keys/b")),
        ("1".into(), "2".into())
    );
    assert_eq!(bench.read(&volume, "ca.crt"), "bundle");

    let mut took = Vec::new();
    for n in 0..20 {
        tokio::time::sleep(quick().between_changes).await;
        let content = format!("value {n}");
        stream.files(&[("a", &content), ("keys/b", "2")]);
        took.push(until("the new value", || bench.read(&volume, "a") == content).await);
    }
    took.sort();
    eprintln!(
        "an update is in the file after {:?} (median), {:?} (worst of 20)",
        took[10], took[19]
    );
    assert!(
        took[10] < Duration::from_millis(100),
        "milliseconds: {:?}",
        took[10]
    );

    let path = bench.path(&volume);
    let folders = || {
        std::fs::read_dir(&path)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("..2")
            })
            .count()
    };
    until("replaced files are removed", || folders() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ever_sees_a_mounted_volume_without_its_files() {
    if !can_mount("nobody_ever_sees_a_mounted_volume_without_its_files") {
        return;
    }
    let mut bench = Bench::new();
    let volumes: Vec<_> = (0..20).map(|n| bench.volume(&format!("pod-{n}"))).collect();
    let paths: Vec<_> = volumes.iter().map(|volume| bench.path(volume)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&done);
    let watcher = tokio::task::spawn_blocking(move || {
        let mut seen = 0u64;
        while !watching.load(Ordering::SeqCst) {
            // A breath for the others on this machine.
            std::thread::park_timeout(Duration::from_micros(50));
            for path in &paths {
                let Ok(folder) = std::fs::File::open(path) else {
                    continue;
                };
                let outer = std::fs::metadata(path.parent().unwrap()).unwrap().dev();
                if folder.metadata().unwrap().dev() != outer {
                    let content =
                        std::fs::read_to_string(path.join("a")).expect("a mounted volume has its files");
                    assert_eq!(content, "whole");
                    seen += 1;
                }
            }
        }
        seen
    });
    let (mut published, mut streams) = (Vec::new(), Vec::new());
    for volume in &volumes {
        let call = bench.publish(volume, "token-1");
        let stream = bench.stream().await;
        stream.files(&[("a", "whole")]);
        streams.push(stream);
        // As the kubelet does: once more, if this machine took longer than the first call waits.
        published.push(match call.await.unwrap() {
            Ok(()) => Ok(()),
            Err(_) => bench.publish(volume, "token-1").await.unwrap(),
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    done.store(true, Ordering::SeqCst);
    assert!(watcher.await.unwrap() > 20);
    assert!(published.iter().all(Result::is_ok));
}

#[tokio::test]
async fn the_file_system_is_memory_of_its_own_without_execution() {
    if !can_mount("the_file_system_is_memory_of_its_own_without_execution") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, _stream) = bench.mounted("one", "1").await;
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = bench.path(&volume);
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == path.to_str())
        .unwrap();
    for option in ["noexec", "nosuid", "nodev", " - tmpfs strongroom ", "size=12288k"] {
        assert!(line.contains(option), "{option}: {line}");
    }
    let state = table
        .lines()
        .find(|line| line.contains("csi.strongroom.dev/state"))
        .unwrap();
    assert!(state.contains("mode=700") && state.contains("noexec"), "{state}");
}

#[tokio::test]
async fn the_first_call_tells_why_and_the_next_waits_until_it_is_healed() {
    if !can_mount("the_first_call_tells_why_and_the_next_waits_until_it_is_healed") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let begun = Instant::now();
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    stream.refuse(
        Kind::Denied,
        "The service account 'app' does not have secrets get permission on key vault 'demo'.",
    );
    let error = call.await.unwrap().unwrap_err();
    assert!(begun.elapsed() >= quick().first_call && begun.elapsed() < Duration::from_secs(2));
    assert_eq!(
        error.to_string(),
        "The service account 'app' does not have secrets get permission on key vault 'demo'."
    );
    assert_eq!(
        error.kind(),
        Kind::Unavailable,
        "the kubelet must try again, and unmount in the end"
    );

    let call = bench.publish(&volume, "token-2");
    tokio::time::sleep(quick().first_call * 2).await;
    assert!(!call.is_finished(), "held");
    let begun = Instant::now();
    stream.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "at once: {:?}",
        begun.elapsed()
    );
    assert_eq!(bench.read(&volume, "a"), "1");
}

#[tokio::test]
async fn what_can_never_work_is_told_at_once_and_for_good() {
    if !can_mount("what_can_never_work_is_told_at_once_and_for_good") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    stream.refuse(Kind::Invalid, "item 1 of objects: a mode is an octal number");
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.to_string(), "item 1 of objects: a mode is an octal number");
    assert!(
        stream.say.is_closed(),
        "and no stream stays behind, since the kubelet will not unmount it"
    );
}

#[tokio::test]
async fn a_call_that_waits_returns_when_its_pod_is_being_deleted() {
    if !can_mount("a_call_that_waits_returns_when_its_pod_is_being_deleted") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert_eq!(call.await.unwrap(), Err(PublishError::Unanswered));
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = stream.say.send(Ok(ServeFrame::PodEnding));
    assert_eq!(
        timeout(Duration::from_secs(1), call).await.unwrap().unwrap(),
        Err(PublishError::PodEnding)
    );
}

#[tokio::test]
async fn a_republish_swaps_the_token_and_always_succeeds() {
    if !can_mount("a_republish_swaps_the_token_and_always_succeeds") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, mut stream) = bench.mounted("one", "1").await;
    bench.publish(&volume, "token-1").await.unwrap().unwrap();
    bench.publish(&volume, "token-2").await.unwrap().unwrap();
    assert_eq!(
        stream.tokens.recv().await.unwrap().expose(),
        b"token-2",
        "the same one is not sent again"
    );
    stream.refuse(Kind::Denied, "no more");
    bench.publish(&volume, "token-3").await.unwrap().unwrap();
    assert_eq!(stream.tokens.recv().await.unwrap().expose(), b"token-3");
    bench.fake.down.store(true, Ordering::SeqCst);
    drop(stream);
    bench.publish(&volume, "token-4").await.unwrap().unwrap();
    assert_eq!(bench.read(&volume, "a"), "1");
    bench.fake.down.store(false, Ordering::SeqCst);
    assert_eq!(
        bench.stream().await.open.token.expose(),
        b"token-4",
        "the next stream begins with the youngest"
    );
}

#[tokio::test]
async fn after_a_revocation_a_mounted_file_keeps_its_last_value_and_is_counted() {
    if !can_mount("after_a_revocation_a_mounted_file_keeps_its_last_value_and_is_counted") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    stream.refuse(Kind::Denied, "no more");
    until("the refusal is measured", || {
        bench.metric("strongroom_oldest_refusal_seconds") != "0"
    })
    .await;
    assert_eq!(bench.metric("strongroom_mounts"), "1");
    assert_eq!(
        bench.metric("strongroom_file_updates_total{outcome=\"denied\"}"),
        "1"
    );
    assert_eq!(bench.read(&volume, "a"), "1");
    stream.refuse(Kind::Unauthenticated, "its pod is gone");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ends = bench.metric("strongroom_file_updates_total{outcome=\"unauthenticated\"}");
    assert_eq!(ends, "0", "that a pod ends is no revocation");
    stream.files(&[("a", "2")]);
    until("access is given again", || bench.read(&volume, "a") == "2").await;
    until("and measured", || {
        bench.metric("strongroom_oldest_refusal_seconds") == "0"
    })
    .await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn while_nobody_answers_the_pod_is_told_and_the_volume_comes_when_somebody_does() {
    if !can_mount("while_nobody_answers_the_pod_is_told_and_the_volume_comes_when_somebody_does") {
        return;
    }
    let mut bench = Bench::new();
    bench.fake.down.store(true, Ordering::SeqCst);
    let volume = bench.volume("one");
    let error = bench.publish(&volume, "token-1").await.unwrap().unwrap_err();
    assert!(
        error.to_string().ends_with("as soon as it can: nobody there"),
        "{error}"
    );
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.fake.down.store(false, Ordering::SeqCst);
    let stream = bench.stream().await;
    let unavailable = Unavailable {
        message: "the vault is starting".to_owned(),
        retry_after_seconds: 0,
    };
    let _ = stream.say.send(Ok(ServeFrame::Unavailable(unavailable)));
    drop(stream);
    let stream = bench.stream().await;
    stream.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_said_just_before_a_stream_ended_counts() {
    if !can_mount("what_was_said_just_before_a_stream_ended_counts") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    bench.stream().await.files(&[("a", "1")]);
    call.await.unwrap().unwrap();
    // Twice at once: the second is too young when the stream ends.
    let stream = bench.stream().await;
    stream.files(&[("a", "2")]);
    stream.files(&[("a", "3")]);
    drop(stream);
    until("the last value", || bench.read(&volume, "a") == "3").await;
    let ours = || {
        let entries = std::fs::read_dir(bench.path(&volume)).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("..2")
            })
            .count()
    };
    until("replaced files go without a stream too", || ours() == 1).await;
}

#[tokio::test]
async fn unmounting_needs_nobody_and_may_be_asked_again() {
    if !can_mount("unmounting_needs_nobody_and_may_be_asked_again") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    bench.fake.down.store(true, Ordering::SeqCst);
    drop(stream);
    // Somebody on the node has a file open: it must not keep the pod from ending.
    let _open = std::fs::File::open(bench.path(&volume).join("a")).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.unpublish(&volume).await, Ok(()));
        assert!(!bench.path(&volume).exists());
    }
    assert_eq!(bench.mounts(), 0);
    assert!(bench.host.state.load().unwrap().is_empty());

    // After a reboot: a plain folder, and nothing known.
    std::fs::create_dir(bench.path(&volume)).unwrap();
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
    // The kubelet has cleaned up already.
    std::fs::remove_dir_all(bench.kubelet.path().join("pods")).unwrap();
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
}

#[tokio::test]
async fn a_folder_with_files_that_are_not_ours_is_not_emptied() {
    if !can_mount("a_folder_with_files_that_are_not_ours_is_not_emptied") {
        return;
    }
    let bench = Bench::new();
    let volume = bench.volume("one");
    std::fs::create_dir(bench.path(&volume)).unwrap();
    std::fs::write(bench.path(&volume).join("precious"), "x").unwrap();
    assert!(matches!(
        bench.unpublish(&volume).await,
        Err(FilesError::Unmount(_))
    ));
    assert_eq!(bench.read(&volume, "precious"), "x");
}

#[tokio::test]
async fn unmounting_ends_a_call_that_waits() {
    if !can_mount("unmounting_ends_a_call_that_waits") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert!(call.await.unwrap().is_err());
    let call = bench.publish(&volume, "token-1");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.unpublish(&volume).await, Ok(()));
    assert_eq!(
        timeout(Duration::from_secs(1), call).await.unwrap().unwrap(),
        Err(PublishError::Ended)
    );
    assert!(stream.say.is_closed());
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn a_restarted_node_goes_on_with_live_mounts_and_forgets_the_others() {
    if !can_mount("a_restarted_node_goes_on_with_live_mounts_and_forgets_the_others") {
        return;
    }
    let mut bench = Bench::new();
    let (live, first) = bench.mounted("live", "1").await;
    let (gone, second) = bench.mounted("gone", "1").await;
    bench.publish(&live, "token-2").await.unwrap().unwrap();
    let mut first = first;
    first.tokens.recv().await.unwrap();
    let inode = std::fs::metadata(bench.path(&live)).unwrap().ino();
    drop((first, second));
    rustix::mount::unmount(bench.path(&gone), rustix::mount::UnmountFlags::empty()).unwrap();
    while bench.streams.try_recv().is_ok() {}

    let begun = Instant::now();
    bench.restart().await;
    let stream = loop {
        let stream = bench.stream().await;
        if !stream.say.is_closed() {
            break stream;
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(stream.open.token.expose(), b"token-2", "with the last token");
    assert_eq!(stream.open.volume, "csi-live");
    assert_eq!(bench.read(&live, "a"), "1", "the mount has stayed");
    stream.files(&[("a", "2")]);
    until("updates go on", || bench.read(&live, "a") == "2").await;
    assert_eq!(
        std::fs::metadata(bench.path(&live)).unwrap().ino(),
        inode,
        "the same file system"
    );
    let known: Vec<_> = bench
        .host
        .state
        .load()
        .unwrap()
        .into_iter()
        .map(|record| record.volume.id)
        .collect();
    assert_eq!(
        known.as_slice(),
        std::slice::from_ref(&live.id),
        "what is no longer mounted is forgotten"
    );
    bench.publish(&live, "token-3").await.unwrap().unwrap();
    assert_eq!(bench.mounts(), 1);
    assert_eq!(bench.unpublish(&live).await, Ok(()));
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn a_mounted_volume_without_a_record_is_taken_on_as_it_is() {
    if !can_mount("a_mounted_volume_without_a_record_is_taken_on_as_it_is") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    drop(stream);
    bench.volumes.stop().await;
    bench.host.state.remove(&volume.id).unwrap();
    bench.restart().await;
    bench.publish(&volume, "token-2").await.unwrap().unwrap();
    assert_eq!((bench.mounts(), bench.read(&volume, "a")), (1, "1".into()));
    assert_eq!(bench.host.state.load().unwrap().len(), 0);
    until("and remembered again", || {
        bench.host.state.load().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_volume_whose_mount_has_vanished_is_mounted_anew_when_asked_and_else_forgotten() {
    if !can_mount("a_volume_whose_mount_has_vanished_is_mounted_anew_when_asked_and_else_forgotten") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, stream) = bench.mounted("one", "1").await;
    rustix::mount::unmount(bench.path(&volume), rustix::mount::UnmountFlags::empty()).unwrap();
    let call = bench.publish(&volume, "token-2");
    let again = bench.stream().await;
    assert!(stream.say.is_closed());
    again.files(&[("a", "2")]);
    call.await.unwrap().unwrap();
    assert_eq!(bench.read(&volume, "a"), "2");

    rustix::mount::unmount(bench.path(&volume), rustix::mount::UnmountFlags::empty()).unwrap();
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    until("its stream ends", || again.say.is_closed()).await;
    until("its record goes", || bench.host.state.load().unwrap().is_empty()).await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn a_volume_that_nobody_asks_for_any_more_is_forgotten() {
    if !can_mount("a_volume_that_nobody_asks_for_any_more_is_forgotten") {
        return;
    }
    let mut bench = Bench::new();
    let volume = bench.volume("one");
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    assert!(call.await.unwrap().is_err());
    let stop = CancellationToken::new();
    let (volumes, stopped) = (Arc::clone(&bench.volumes), stop.clone());
    let rounds = tokio::spawn(async move { volumes.look_after(&stopped).await });
    until("its stream ends", || stream.say.is_closed()).await;
    stop.cancel();
    rounds.await.unwrap();
}

#[tokio::test]
async fn with_a_group_the_group_may_read_what_the_owner_may() {
    if !can_mount("with_a_group_the_group_may_read_what_the_owner_may") {
        return;
    }
    let mut bench = Bench::new();
    let volume = Volume {
        group: Some(2000),
        ..bench.volume("one")
    };
    let call = bench.publish(&volume, "token-1");
    let stream = bench.stream().await;
    let file = |path: &str, mode: u16| PlannedFile {
        path: FilePath::parse(path).unwrap(),
        mode: FileMode::new(mode).unwrap(),
        content: token("x"),
    };
    let files = vec![file("a", 0o400), file("b", 0o644), file("c/d", 0o200)];
    let _ = stream
        .say
        .send(Ok(ServeFrame::Files(FilePlan::new(files, "").unwrap())));
    call.await.unwrap().unwrap();
    for (name, mode) in [
        ("a", 0o440),
        ("b", 0o644),
        ("c/d", 0o200),
        ("ca.crt", 0o644),
        (".", 0o755),
        ("c", 0o755),
    ] {
        let there = std::fs::metadata(bench.path(&volume).join(name)).unwrap();
        assert_eq!((there.gid(), there.mode() & 0o7777), (2000, mode), "{name}");
    }
}

#[tokio::test]
async fn three_hundred_pods_that_start_at_once_all_get_their_files() {
    if !can_mount("three_hundred_pods_that_start_at_once_all_get_their_files") {
        return;
    }
    let mut bench = Bench::new();
    let volumes: Vec<_> = (0..300).map(|n| bench.volume(&format!("pod-{n}"))).collect();
    let mut calls: Vec<_> = volumes
        .iter()
        .map(|volume| bench.publish(volume, volume.id.as_str()))
        .collect();
    let mut streams = Vec::new();
    for _ in &volumes {
        let stream = bench.stream().await;
        stream.files(&[("a", &stream.open.volume)]);
        streams.push(stream);
    }
    for (volume, call) in volumes.iter().zip(&mut calls) {
        // One that took longer than the first call's time is asked for again, as the kubelet does.
        if call.await.unwrap().is_err() {
            bench.publish(volume, volume.id.as_str()).await.unwrap().unwrap();
        }
        assert_eq!(bench.read(volume, "a"), volume.id.as_str());
    }
    assert_eq!(bench.mounts(), 300);
    let ends: Vec<_> = volumes.iter().map(|volume| bench.unpublish(volume)).collect();
    assert!(futures::future::join_all(ends).await.iter().all(Result::is_ok));
    assert_eq!(bench.mounts(), 0);
}

#[tokio::test]
async fn links_on_the_way_to_a_target_are_not_followed() {
    if !can_mount("links_on_the_way_to_a_target_are_not_followed") {
        return;
    }
    let mut bench = Bench::new();
    let elsewhere = TempDir::new().unwrap();
    let volume = bench.volume("one");
    let folder = bench.kubelet.path().join(volume.target.folder());
    std::fs::remove_dir(&folder).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    let call = bench.publish(&volume, "token-1");
    assert!(matches!(
        call.await.unwrap(),
        Err(PublishError::Files(FilesError::Open(_)))
    ));
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(bench.streams.try_recv().is_err());
}

#[tokio::test]
async fn records_are_in_memory_alone_and_broken_ones_are_dropped() {
    if !can_mount("records_are_in_memory_alone_and_broken_ones_are_dropped") {
        return;
    }
    let mut bench = Bench::new();
    let (volume, _stream) = bench.mounted("one", "1").await;
    let state = bench.kubelet.path().join("plugins").join(DRIVER).join("state");
    let record = state.join(volume.id.as_str());
    assert_eq!(std::fs::metadata(&record).unwrap().mode() & 0o7777, 0o600);
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(state.join("csi-broken"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(state.join(".csi-half"), &whole).unwrap();
    std::fs::write(state.join("csi-empty"), "").unwrap();
    let records = bench.host.state.load().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].volume, volume);
    assert_eq!(records[0].token.expose(), b"token-1");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);

    bench.host.state.close().unwrap();
    assert!(
        state.join(volume.id.as_str()).exists(),
        "kept while something is mounted"
    );
    bench.unpublish(&volume).await.unwrap();
    bench.host.state.close().unwrap();
    assert!(!state.exists(), "nothing is left behind");
}

/// One call of a unary method, as the kubelet makes it. The answer, or the code and text of the refusal.
async fn call<Answer: prost::Message + Default>(
    socket: &Path,
    method: &str,
    question: &impl prost::Message,
) -> Result<Answer, (String, String)> {
    use http_body_util::BodyExt;
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let message = question.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    // The kubelet asks a driver as `localhost`, but for the registration: that socket's client sends the socket's path.
    let authority = if method.starts_with("pluginregistration") {
        socket.to_str().unwrap().replace('/', "%2F")
    } else {
        "localhost".to_owned()
    };
    let request = http::Request::post(format!("http://{authority}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let text = |headers: &http::HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let refused = text(response.headers(), "grpc-status")
        .zip(text(response.headers(), "grpc-message"))
        .filter(|(code, _)| code != "0");
    if let Some(refused) = refused {
        return Err(refused);
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok(Answer::decode(&body[5..]).unwrap())
}

#[tokio::test]
async fn the_kubelet_finds_the_driver_registers_it_and_mounts_through_it() {
    if !can_mount("the_kubelet_finds_the_driver_registers_it_and_mounts_through_it") {
        return;
    }
    use super::proto::csi::{self, VolumeCapability, volume_capability};
    use super::proto::registration::{
        InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    };

    let mut bench = Bench::new();
    bench.host.state.close().unwrap();
    let (kubelet_dir, readiness, shutdown) = (
        bench.kubelet.path().to_owned(),
        Readiness::new(),
        CancellationToken::new(),
    );
    let upstream: Arc<dyn Upstream> = Arc::<Fake>::clone(&bench.fake);
    let node = Node {
        kubelet_dir: kubelet_dir.clone(),
        node_name: "node-1".to_owned(),
        upstream,
        clock: clock(),
        metrics: Arc::clone(&bench.metrics),
        readiness: readiness.clone(),
        shutdown: shutdown.clone(),
        times: quick(),
    };
    let served = tokio::spawn(serve(node));
    let registration = kubelet_dir.join("plugins_registry/csi.strongroom.dev@reg.sock");
    until("the kubelet's watch finds the socket", || registration.exists()).await;
    assert_eq!(
        readiness.missing()[0].0,
        "kubelet",
        "not ready before the kubelet knows it"
    );

    let info: PluginInfo = call(
        &registration,
        "pluginregistration.Registration/GetInfo",
        &InfoRequest {},
    )
    .await
    .unwrap();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str()),
        ("CSIPlugin", "csi.strongroom.dev")
    );
    assert_eq!(info.supported_versions, ["1.0.0"]);
    let socket = PathBuf::from(info.endpoint);
    for path in [&socket, &registration] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }
    let about: csi::NodeGetInfoResponse =
        call(&socket, "csi.v1.Node/NodeGetInfo", &csi::NodeGetInfoRequest {})
            .await
            .unwrap();
    assert_eq!(about.node_id, "node-1");
    let status = RegistrationStatus {
        plugin_registered: true,
        error: String::new(),
    };
    let _: RegistrationStatusResponse = call(
        &registration,
        "pluginregistration.Registration/NotifyRegistrationStatus",
        &status,
    )
    .await
    .unwrap();
    assert!(readiness.missing().is_empty());
    let driver: csi::GetPluginInfoResponse = call(
        &socket,
        "csi.v1.Identity/GetPluginInfo",
        &csi::GetPluginInfoRequest {},
    )
    .await
    .unwrap();
    assert_eq!(driver.name, "csi.strongroom.dev");
    let _: csi::ProbeResponse = call(&socket, "csi.v1.Identity/Probe", &csi::ProbeRequest {})
        .await
        .unwrap();
    let can: csi::NodeGetCapabilitiesResponse = call(
        &socket,
        "csi.v1.Node/NodeGetCapabilities",
        &csi::NodeGetCapabilitiesRequest {},
    )
    .await
    .unwrap();
    assert_eq!(can.capabilities.len(), 1);

    let volume = bench.volume("one");
    let target_path = bench.path(&volume).to_str().unwrap().to_owned();
    let mount = volume_capability::MountVolume {
        volume_mount_group: "2000".to_owned(),
    };
    let tokens = r#"{"strongroom.dev":{"token":"token-1","expirationTimestamp":"2026-11-23T00:00:00Z"}}"#;
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/serviceAccount.tokens", tokens),
        ("vault", "demo"),
        ("objects", "- secret: a"),
    ];
    let mut publish = csi::NodePublishVolumeRequest {
        volume_id: "csi-one".to_owned(),
        target_path: target_path.clone(),
        volume_capability: Some(VolumeCapability {
            access_type: Some(volume_capability::AccessType::Mount(mount)),
        }),
        readonly: false,
        secrets: BTreeMap::new(),
        volume_context: context
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    let method = "csi.v1.Node/NodePublishVolume";
    let refused = call::<csi::NodePublishVolumeResponse>(&socket, method, &publish)
        .await
        .unwrap_err();
    assert_eq!(refused.0, "3", "InvalidArgument: {}", refused.1);
    publish.readonly = true;
    let (asked, question) = (socket.clone(), publish.clone());
    let waiting =
        tokio::spawn(async move { call::<csi::NodePublishVolumeResponse>(&asked, method, &question).await });
    let stream = bench.stream().await;
    stream.refuse(Kind::Denied, "not allowed");
    assert_eq!(
        waiting.await.unwrap().unwrap_err(),
        ("14".to_owned(), "not%20allowed".to_owned())
    );
    stream.files(&[("a", "1")]);
    call::<csi::NodePublishVolumeResponse>(&socket, method, &publish)
        .await
        .unwrap();
    assert_eq!(bench.read(&volume, "a"), "1");

    let unpublish = csi::NodeUnpublishVolumeRequest {
        volume_id: "csi-one".to_owned(),
        target_path,
    };
    let method = "csi.v1.Node/NodeUnpublishVolume";
    for _ in 0..2 {
        let _: csi::NodeUnpublishVolumeResponse = call(&socket, method, &unpublish).await.unwrap();
    }
    assert_eq!(bench.mounts(), 0);
    assert_eq!(
        bench.metric("strongroom_publishes_total{outcome=\"success\"}"),
        "1"
    );

    shutdown.cancel();
    timeout(Duration::from_secs(2), served)
        .await
        .expect("ends within 2 s")
        .unwrap()
        .unwrap();
    assert!(!socket.exists() && !registration.exists());
    assert!(!kubelet_dir.join("plugins/csi.strongroom.dev/state").exists());
}
