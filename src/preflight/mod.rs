use crate::config::{Config, Migration};
use crate::upstream::admin::Admin;
#[derive(PartialEq, Debug)] pub enum Severity { Error, Warning }
pub struct Finding { pub severity: Severity, pub code: String, pub where_: String, pub message: String, pub action: String }
pub async fn run(_: &Config, _: &Admin, _: &Admin, _: &[&Migration]) -> Vec<Finding> { vec![] }
