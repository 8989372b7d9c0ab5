//! Strongroom: Azure Key Vault for any Kubernetes cluster.
pub mod audit;
pub mod client;
pub mod compile;
pub mod config;
pub mod crd;
pub mod crypto;
pub mod engine;
pub mod gate;
pub mod identity;
pub mod model;
pub mod node;
pub mod policy;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod wire;
pub mod world;
