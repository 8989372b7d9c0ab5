//! Unix sockets that only root can use, put in place at once.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::Stream;
use tokio::net::{UnixListener, UnixStream};

/// Listens at a path. The socket is made and closed to others (0600) in the folder `making` of the same file system, then
/// moved into place, in the place of what a process before left there.
pub(super) fn listen(making: &Path, path: &Path) -> io::Result<UnixListener> {
    let new = making.join(".new.sock");
    match std::fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// The connections of a listener. One that cannot be accepted ends nothing.
pub(super) fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    futures::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                // Out of file descriptors, mostly.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    })
}
