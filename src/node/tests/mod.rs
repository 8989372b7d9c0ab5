//! The node as the kubelet meets it, on real memory file systems. Where none can be mounted (not root), these tests say
//! loudly that they are skipped.

mod calls;
mod kubelet;
mod lasting;
mod mounted;

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
