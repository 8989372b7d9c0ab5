//! What all volumes of this node share, and the steps on its files. They block, so they run apart from the runtime's own
//! threads.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Gid;

use super::files::{Device, FilesError, Kubelet, Place, Tmpfs, Tree, Written};
use super::state::{Record, State};
use super::upstream::Upstream;
use super::volume::{Target, Volume};
use crate::model::{Clock, SecretBytes, UnixSeconds};
use crate::telemetry::Metrics;
use crate::wire::FilePlan;

/// Room of one volume: its files, as often as they may lie there at once while they are replaced.
const VOLUME_BYTES: u64 = 12 * 1024 * 1024;
const VOLUME_INODES: u64 = 8 * 1024;

/// How long things may take; tests shorten them.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// The first call for a volume fails after this, so that the pod's event says what is missing.
    pub(super) first_call: Duration,
    /// Later calls are held so long: less than the kubelet's own patience of 2 minutes.
    pub(super) later_calls: Duration,
    /// Longest wait for a stream to open.
    pub(super) open: Duration,
    /// Least time between two changes of one volume: readers must have time to finish.
    pub(super) between_changes: Duration,
    /// Replaced files are removed after this.
    pub(super) sweep: Duration,
    /// First pause before a stream is opened again.
    pub(super) first_pause: Duration,
    /// Longest pause while somebody waits for the volume.
    pub(super) waiting_pause: Duration,
    /// Longest pause for a volume that is mounted.
    pub(super) mounted_pause: Duration,
    /// A stream that lived so long was no failure.
    pub(super) steady: Duration,
    /// How often mounts are looked after.
    pub(super) round: Duration,
    /// A volume that was never mounted is forgotten when the kubelet has not asked for it for so long.
    pub(super) forget: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            first_call: Duration::from_secs(2),
            later_calls: Duration::from_secs(100),
            open: Duration::from_secs(30),
            between_changes: Duration::from_millis(50),
            sweep: Duration::from_secs(2),
            first_pause: Duration::from_millis(200),
            waiting_pause: Duration::from_secs(4),
            mounted_pause: Duration::from_secs(5),
            steady: Duration::from_secs(10),
            round: Duration::from_secs(10),
            forget: Duration::from_secs(600),
        }
    }
}

/// What all volumes of this node share.
pub(super) struct Host {
    pub(super) kubelet: Kubelet,
    pub(super) state: State,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) times: Times,
}

impl Host {
    /// Runs a step that blocks. It is carried out to its end even if whoever waits for it goes away.
    pub(super) async fn step<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&Self) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let host = Arc::clone(self);
        tokio::task::spawn_blocking(move || step(&host))
            .await
            .unwrap_or(Err(FilesError::Stopping))
    }

    /// Makes a volume show a plan. Where it is not mounted yet, it is from here on, with all files in it.
    pub(super) fn show(
        &self,
        volume: &Volume,
        mounted: Option<Device>,
        plan: &FilePlan,
    ) -> Result<(Device, Written), FilesError> {
        let stamp = stamp(self.clock.now().wall);
        if let Some(device) = mounted {
            let tree = Tree::new(self.kubelet.mounted(&volume.target, device)?, volume.group);
            return tree.write(plan, &stamp).map(|written| (device, written));
        }
        let fs = Tmpfs::create(0o755, VOLUME_BYTES, VOLUME_INODES)?;
        let root = fs.root()?;
        if let Some(group) = volume.group {
            rustix::fs::fchown(root.as_fd(), None, Some(Gid::from_raw(group))).map_err(FilesError::Create)?;
        }
        let device = Device::of(root.as_fd())?;
        Tree::new(root, volume.group).write(plan, &stamp)?;
        let folder = self.kubelet.folder(volume.target.folder())?;
        fs.attach(folder.as_fd(), Target::LEAF)?;
        Ok((device, Written::Changed))
    }

    /// The volume of ours that is already mounted at a target; whatever else is mounted there is unmounted.
    pub(super) fn adopt(&self, volume: &Volume) -> Result<Option<Device>, FilesError> {
        match self.kubelet.inspect(&volume.target)? {
            Place::Free => return Ok(None),
            Place::Tmpfs(device) => {
                let tree = Tree::new(self.kubelet.mounted(&volume.target, device)?, volume.group);
                if tree.is_written() {
                    return Ok(Some(device));
                }
            }
            Place::Foreign => {}
        }
        self.kubelet.unmount(&volume.target)?;
        Ok(None)
    }

    /// Whether a volume is still mounted as it was.
    pub(super) fn is_live(&self, volume: &Volume, device: Device) -> bool {
        self.kubelet.inspect(&volume.target) == Ok(Place::Tmpfs(device))
    }

    /// Removes what was replaced in a volume.
    pub(super) fn sweep(&self, volume: &Volume, device: Device) -> Result<(), FilesError> {
        Tree::new(self.kubelet.mounted(&volume.target, device)?, volume.group).sweep()
    }

    /// Remembers a mounted volume and its token for the next process.
    pub(super) fn remember(
        &self,
        volume: &Volume,
        device: Device,
        token: &SecretBytes,
    ) -> Result<(), FilesError> {
        let token = SecretBytes::new(token.expose().to_vec());
        self.state.save(Record {
            volume: volume.clone(),
            device,
            token,
        })
    }
}

/// The time as folders have it in their names.
fn stamp(now: UnixSeconds) -> String {
    jiff::Timestamp::from_second(now.0).map_or_else(
        |_| "0".to_owned(),
        |time| time.strftime("%Y_%m_%d_%H_%M_%S").to_string(),
    )
}
