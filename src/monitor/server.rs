//! HTTP on `monitor.bind`: /metrics, /livez, /readyz and a page at /.
#![expect(clippy::disallowed_methods, reason = "io: listens, and looks after histograms now and then")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::health::Readiness;
use super::metrics::Metrics;
use super::page;
use super::seats::Seats;
use crate::control::Operator;

/// At a time.
const CONNECTIONS: usize = 64;
/// Longer than between two looks of Prometheus, who keeps his.
const LIFETIME: Duration = Duration::from_secs(90);

/// What it shows.
#[derive(Clone)]
pub struct Monitor {
    pub metrics: Arc<Metrics>,
    pub readiness: watch::Receiver<Readiness>,
    /// For the page; only its status is used.
    pub operator: Operator,
}

/// `monitor.bind`; port 0 takes a free one, which the listener tells.
pub async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| io::Error::new(e.kind(), format!("monitor.bind {address}: {e}")))
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, monitor: Monitor, stop: CancellationToken) -> io::Result<()> {
    let metrics = monitor.metrics.clone();
    let app = Router::new()
        .route("/", get(index))
        .route("/metrics", get(render))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(monitor);
    let server =
        axum::serve(Seats::new(listener, CONNECTIONS, LIFETIME), app).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = server => served,
        () = upkeep(&metrics) => Ok(()),
    }
}

/// Nobody may be scraping.
async fn upkeep(metrics: &Metrics) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        metrics.upkeep();
    }
}

async fn render(State(monitor): State<Monitor>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], monitor.metrics.render()).into_response()
}

async fn readyz(State(monitor): State<Monitor>) -> Response {
    let readiness = monitor.readiness.borrow().clone();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn index(State(monitor): State<Monitor>) -> Html<String> {
    Html(page::html(&monitor.operator.status()))
}
