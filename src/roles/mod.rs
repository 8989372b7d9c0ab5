//! What each role assembles: nothing is decided here.

pub mod dev;

/// A role could not start, or ended by a defect. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {source}")]
pub struct RoleError {
    attempted: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Says what was attempted when something fails.
trait Attempt<T> {
    fn attempting(self, what: &'static str) -> Result<T, RoleError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Attempt<T> for Result<T, E> {
    fn attempting(self, what: &'static str) -> Result<T, RoleError> {
        self.map_err(|error| RoleError {
            attempted: what,
            source: error.into(),
        })
    }
}
