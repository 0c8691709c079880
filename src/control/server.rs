//! The control socket: HTTP/1.1 with JSON over a Unix socket that only its user may open.
#![expect(clippy::disallowed_methods, reason = "io: the control socket")]

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::operator::{Operator, Peer};
use super::protocol::{
    Action, Command, ErrorBody, Event, Refusal, SkipBody, StepBody, SwitchBody, TranslateQuery, WaiveBody, What,
};
use super::translate;
use crate::ids::TopicPartition;

/// No command comes near this.
const BODY_LIMIT: usize = 64 * 1024;

const ROUTES: &str = "there is: GET /v1/status, GET /v1/migrations, GET /v1/migrations/{name}, GET /v1/events, \
                      POST /v1/migrations/{name}/prepare, POST /v1/migrations/{name}/switch, \
                      POST /v1/migrations/{name}/complete, GET /v1/migrations/{name}/report, \
                      POST /v1/migrations/{name}/abort, POST /v1/migrations/{name}/waive, \
                      POST /v1/migrations/{name}/skip, \
                      GET /v1/offsets/translate?topic=&partition=&offset=&from=";

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: a successor's file under the same name is not ours to remove.
    identity: (u64, u64),
}

#[derive(Debug, Error)]
pub enum BindError {
    #[error("control socket {0}: another proxy answers there; stop it or set control.socket to another path")]
    InUse(PathBuf),
    #[error("control socket {0}: a file that is no socket is in the way")]
    NotASocket(PathBuf),
    #[error("control socket {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl ControlSocket {
    /// Takes the path over from a process that is gone; makes the folder if it is not there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |e| BindError::Io(path.to_owned(), e);
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        remove_stale(path)?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).map_err(failed)?;
        socket.bind(&socket2::SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
        // Nobody can connect before `listen`, so nobody gets in before the mode is set.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let meta = std::fs::symlink_metadata(path).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), identity: (meta.dev(), meta.ino()) };
        socket.listen(64).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let listener: std::os::unix::net::UnixListener = std::os::fd::OwnedFd::from(socket).into();
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, file })
    }

    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |e| BindError::Io(path.to_owned(), e);
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "control socket's file stays behind");
        }
    }
}

/// Serves until `stop`; calls under way are answered first.
pub async fn serve(socket: ControlSocket, operator: Operator, stop: CancellationToken) -> io::Result<()> {
    let ControlSocket { listener, file } = socket;
    let app = router(operator, stop.clone()).into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
    drop(file);
    served
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|c| c.uid()) }
    }
}

#[derive(Clone)]
struct Shared {
    operator: Operator,
    stop: CancellationToken,
}

/// Steps that are not built yet have no route.
fn router(operator: Operator, stop: CancellationToken) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/migrations", get(migrations))
        .route("/v1/migrations/{name}", get(migration))
        .route("/v1/migrations/{name}/prepare", post(prepare))
        .route("/v1/migrations/{name}/switch", post(switch))
        .route("/v1/migrations/{name}/complete", post(complete))
        .route("/v1/migrations/{name}/report", get(report))
        .route("/v1/migrations/{name}/abort", post(abort))
        .route("/v1/migrations/{name}/waive", post(waive))
        .route("/v1/migrations/{name}/skip", post(skip))
        .route("/v1/offsets/translate", get(translated))
        .route("/v1/events", get(events))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Shared { operator, stop })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self })).into_response()
    }
}

async fn status(State(shared): State<Shared>) -> Response {
    Json(shared.operator.status()).into_response()
}

async fn migrations(State(shared): State<Shared>) -> Response {
    Json(shared.operator.status().migrations).into_response()
}

async fn migration(State(shared): State<Shared>, UrlPath(name): UrlPath<String>) -> Response {
    match shared.operator.migration(&name) {
        Ok(migration) => Json(migration).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

type Body = Result<Bytes, BytesRejection>;

async fn prepare(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    step(&shared, peer, migration, Action::Prepare, body).await
}

async fn complete(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    step(&shared, peer, migration, Action::Complete, body).await
}

async fn report(State(shared): State<Shared>, UrlPath(migration): UrlPath<String>) -> Result<Response, Refusal> {
    Ok(Json(shared.operator.report(&migration)?).into_response())
}

async fn abort(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    step(&shared, peer, migration, Action::Abort, body).await
}

async fn step(shared: &Shared, peer: Peer, migration: String, action: Action, body: Body) -> Response {
    let command = read_body::<StepBody>(body).map(|body| Command {
        migration,
        action,
        expect_step: body.expect_step,
        dry_run: body.dry_run,
    });
    run(shared, peer, command).await
}

async fn switch(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    let command = read_body::<SwitchBody>(body).and_then(|body| {
        let SwitchBody { what, to, force, hold_consumers, expect_step, dry_run } = body;
        let action = match what {
            What::Producers => Action::SwitchProducers { to, force, hold_consumers },
            _ if hold_consumers => {
                let message = format!("consumers are held with `switch producers`, not with `{}`", what.step());
                return Err(Refusal::new("bad_request", message, "leave hold_consumers (--hold-consumers) out"));
            }
            What::Consumers => Action::SwitchConsumers { to },
            What::Groups => Action::SwitchGroups { to, force },
        };
        Ok(Command { migration, action, expect_step, dry_run })
    });
    run(&shared, peer, command).await
}

async fn waive(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    let command = read_body::<WaiveBody>(body).map(|body| Command {
        migration,
        action: Action::Waive { kind: body.kind, name: body.name, why: body.why },
        expect_step: body.expect_step,
        dry_run: body.dry_run,
    });
    run(&shared, peer, command).await
}

async fn skip(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    UrlPath(migration): UrlPath<String>,
    body: Body,
) -> Response {
    let command = read_body::<SkipBody>(body).map(|body| {
        let SkipBody { topic, partition, why, force, expect_step, dry_run } = body;
        let partition = TopicPartition::new(topic.as_str(), partition);
        Command { migration, action: Action::Skip { partition, why, force }, expect_step, dry_run }
    });
    run(&shared, peer, command).await
}

/// JSON, whatever the content type says: `curl -d` need not name it. Nothing at all is `{}`.
fn read_body<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new("too_large", "the body is larger than 64 KiB", ""),
        _ => Refusal::new("bad_request", rejection.body_text(), ""),
    })?;
    let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    serde_json::from_slice(&body)
        .map_err(|e| Refusal::new("bad_request", format!("the body is not what this call takes: {e}"), ""))
}

async fn run(shared: &Shared, peer: Peer, command: Result<Command, Refusal>) -> Response {
    let command = match command {
        Ok(command) => command,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refusal) = shared.operator.migration(&command.migration) {
        return refusal.into_response();
    }
    let (migration, action, dry_run) = (command.migration.clone(), command.action.name(), command.dry_run);
    let uid = peer.uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
    tracing::info!(migration, action, dry_run, uid, "asked by the operator");
    match shared.operator.ask(command, peer).await {
        Ok(outcome) => {
            tracing::info!(migration, action, dry_run, uid, step = outcome.step, "done");
            Json(outcome).into_response()
        }
        Err(refusal) => {
            tracing::info!(migration, action, dry_run, uid, code = refusal.code, reason = refusal.message, "refused");
            refusal.into_response()
        }
    }
}

async fn translated(
    State(shared): State<Shared>,
    query: Result<Query<TranslateQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|e| Refusal::new("bad_request", e.body_text(), translate::QUERY))?;
    Ok(Json(shared.operator.translate(&asked)?).into_response())
}

async fn events(State(shared): State<Shared>) -> Response {
    let stream = event_stream(shared.operator.events(), shared.stop);
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

/// Ends with the server, which would otherwise wait for its listeners. One that reads too slowly is told what it missed.
fn event_stream(
    events: broadcast::Receiver<Event>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<axum::response::sse::Event, Infallible>> {
    stream::unfold((events, stop), |(mut events, stop)| async move {
        let received = tokio::select! {
            () = stop.cancelled() => return None,
            received = events.recv() => received,
        };
        let event = match received {
            Ok(event) => event,
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(missed)) => {
                let details = [("missed".to_owned(), missed.into())].into_iter().collect();
                Event { kind: "missed".to_owned(), migration: None, details }
            }
        };
        let data = serde_json::to_string(&event).unwrap_or_default();
        Some((Ok(axum::response::sse::Event::default().event(event.kind).data(data)), (events, stop)))
    })
}

async fn no_such_route(method: Method, uri: Uri) -> Refusal {
    Refusal::new("not_found", format!("{method} {} does not exist", uri.path()), ROUTES)
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new("method_not_allowed", format!("{} does not take {method}", uri.path()), ROUTES)
}
