//! What the kubelet calls: CSI's Identity and Node, and the plugin registration. Each call reads as what it does; texts
//! and codes follow from errors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::DRIVER;
use super::proto::csi::identity_server::Identity;
use super::proto::csi::node_server::Node;
use super::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, ProbeRequest, ProbeResponse, node_service_capability,
};
use super::proto::registration::registration_server::Registration;
use super::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use super::volume::{Target, VolumeId, parse_publish};
use super::volumes::{PublishError, Volumes};
use crate::model::Kind;
use crate::telemetry::Metrics;
use crate::telemetry::health::Flag;

/// CSI, as far as ephemeral volumes need it.
#[derive(Clone)]
pub(super) struct Csi {
    pub(super) kubelet: Arc<Path>,
    pub(super) node: Arc<str>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) metrics: Arc<Metrics>,
}

/// The one way from an error to what the kubelet sees.
fn status(kind: Kind, error: &impl std::fmt::Display) -> Status {
    Status::new(Code::from_i32(kind.grpc_code()), error.to_string())
}

#[tonic::async_trait]
impl Identity for Csi {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let vendor_version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version,
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse {}))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse {}))
    }
}

impl Csi {
    async fn publish(&self, request: &NodePublishVolumeRequest) -> Result<(), PublishError> {
        let (volume, token) = parse_publish(&self.kubelet, request).map_err(PublishError::Request)?;
        self.volumes.publish(volume, token).await
    }
}

#[tonic::async_trait]
impl Node for Csi {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let published = self.publish(request.get_ref()).await;
        self.metrics
            .publish(published.as_ref().err().map(PublishError::kind));
        match published {
            Ok(()) => Ok(Response::new(NodePublishVolumeResponse {})),
            Err(error) => Err(status(error.kind(), &error)),
        }
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest {
            volume_id,
            target_path,
        } = request.into_inner();
        let id = VolumeId::parse(&volume_id).map_err(|error| status(error.kind(), &error))?;
        let target =
            Target::parse(&self.kubelet, &target_path).map_err(|error| status(error.kind(), &error))?;
        match self.volumes.unpublish(id, target).await {
            Ok(()) => Ok(Response::new(NodeUnpublishVolumeResponse {})),
            Err(error) => {
                tracing::warn!(%error, "a volume cannot be unmounted");
                Err(status(error.kind(), &error))
            }
        }
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let r#type = node_service_capability::rpc::Type::VolumeMountGroup.into();
        let rpc = node_service_capability::Type::Rpc(node_service_capability::Rpc { r#type });
        let capabilities = vec![NodeServiceCapability { r#type: Some(rpc) }];
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.node.to_string(),
        }))
    }
}

/// Tells the kubelet who we are; hears from it whether it took us.
#[derive(Clone)]
pub(super) struct Registrar {
    pub(super) endpoint: PathBuf,
    pub(super) registered: Flag,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = request.into_inner();
        self.registered.set(plugin_registered);
        if plugin_registered {
            tracing::info!("the kubelet has registered the driver");
        } else {
            tracing::error!(error, "the kubelet did not register the driver");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
