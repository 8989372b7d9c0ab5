//! The clock, metrics, logs and the health listener.

pub mod clock;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod sampler;

pub use metrics::Metrics;
