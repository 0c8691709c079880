//! The control socket's other end: one connection a call.
#![expect(clippy::disallowed_methods, reason = "io: connects to the control socket")]

use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::protocol::{
    ErrorBody, MigrationStatus, Outcome, Refusal, Report, SkipBody, Status, StepBody, SwitchBody, TranslateQuery,
    Translation, WaiveBody,
};

#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

#[derive(Debug, Error)]
pub enum ClientError {
    /// The proxy said no, and why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("control socket {}: {why}", path.display())]
    Unreachable { path: PathBuf, why: String },
    #[error("control socket {}: the answer makes no sense: {why}", path.display())]
    Garbled { path: PathBuf, why: String },
}

impl Client {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(Method::GET, "/v1/status", Bytes::new()).await
    }

    pub async fn migration(&self, name: &str) -> Result<MigrationStatus, ClientError> {
        self.call(Method::GET, &format!("/v1/migrations/{}", escape(name)), Bytes::new()).await
    }

    pub async fn prepare(&self, migration: &str, body: &StepBody) -> Result<Outcome, ClientError> {
        self.post(migration, "prepare", body).await
    }

    pub async fn complete(&self, migration: &str, body: &StepBody) -> Result<Outcome, ClientError> {
        self.post(migration, "complete", body).await
    }

    pub async fn report(&self, migration: &str) -> Result<Report, ClientError> {
        self.call(Method::GET, &format!("/v1/migrations/{}/report", escape(migration)), Bytes::new()).await
    }

    pub async fn abort(&self, migration: &str, body: &StepBody) -> Result<Outcome, ClientError> {
        self.post(migration, "abort", body).await
    }

    pub async fn switch(&self, migration: &str, body: &SwitchBody) -> Result<Outcome, ClientError> {
        self.post(migration, "switch", body).await
    }

    pub async fn waive(&self, migration: &str, body: &WaiveBody) -> Result<Outcome, ClientError> {
        self.post(migration, "waive", body).await
    }

    pub async fn skip(&self, migration: &str, body: &SkipBody) -> Result<Outcome, ClientError> {
        self.post(migration, "skip", body).await
    }

    pub async fn translate(&self, asked: &TranslateQuery) -> Result<Translation, ClientError> {
        let TranslateQuery { topic, partition, offset, from } = asked;
        let (topic, from) = (escape(topic), from.name());
        let query = format!("topic={topic}&partition={partition}&offset={offset}&from={from}");
        self.call(Method::GET, &format!("/v1/offsets/translate?{query}"), Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        migration: &str,
        action: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.garbled(e))?;
        self.call(Method::POST, &format!("/v1/migrations/{}/{action}", escape(migration)), body.into()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let (ok, bytes) = self.exchange(method, path, body).await?;
        if ok {
            return serde_json::from_slice(&bytes).map_err(|e| self.garbled(e));
        }
        let body: ErrorBody = serde_json::from_slice(&bytes).map_err(|e| self.garbled(e))?;
        Err(body.error.into())
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(bool, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| self.garbled(e))?;
        let answer = std::pin::pin!(async move {
            let response = sender.send_request(request).await?;
            let ok = response.status().is_success();
            Ok::<_, hyper::Error>((ok, response.into_body().collect().await?.to_bytes()))
        });
        // The connection has to be driven beside the request; it has no task of its own.
        match select(answer, std::pin::pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, answer)) => answer.await,
        }
        .map_err(|e| self.broken(&e))
    }

    fn unreachable(&self, e: &io::Error) -> ClientError {
        let why = match e.kind() {
            io::ErrorKind::NotFound => {
                "there is none; is the proxy running? --socket or KAFKA_CUTOVER_SOCKET names another".to_owned()
            }
            io::ErrorKind::ConnectionRefused => {
                "nobody listens; is the proxy running? its last process did not clean up".to_owned()
            }
            io::ErrorKind::PermissionDenied => "permission denied; only the proxy's own user may ask it".to_owned(),
            _ => e.to_string(),
        };
        ClientError::Unreachable { path: self.path.clone(), why }
    }

    fn broken(&self, e: &hyper::Error) -> ClientError {
        let why = format!("the connection broke before the answer ({e}); `kafka-cutover status` says what was done");
        ClientError::Unreachable { path: self.path.clone(), why }
    }

    fn garbled(&self, e: impl ToString) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), why: e.to_string() }
    }
}

/// One path segment of a URL, or one value of its query.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
