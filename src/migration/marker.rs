use crate::store::identity::{Marker, MarkerSeen};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
pub async fn read(_: &Admin, _: &ClusterView, _: &str) -> Result<MarkerSeen, AdminError> { Ok(MarkerSeen::Absent) }
pub async fn write(_: &Admin, _: &ClusterView, _: &str, _: Option<&Marker>) -> Result<(), AdminError> { Ok(()) }
