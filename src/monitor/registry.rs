//! One proxy's recorder. Nothing is installed globally, so that several proxies fit into one process.

use std::fmt;
use std::sync::{Arc, OnceLock};

use kafka_protocol::messages::ApiKey;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::table::{ALL, Kind, Metric};

/// Seconds; from a local produce to a long hold.
const BUCKETS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// API keys that have a handle of their own; those beyond share one.
const API_KEYS: usize = 128;

#[derive(Clone)]
pub struct Registry(Arc<PrometheusRecorder>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    pub fn new() -> Self {
        let builder = ALL.iter().filter(|m| m.kind == Kind::Histogram).fold(PrometheusBuilder::new(), |builder, m| {
            let matcher = Matcher::Full(m.name.to_owned());
            builder.set_buckets_for_metric(matcher, &BUCKETS).expect("BUCKETS is not empty")
        });
        let recorder = builder.build_recorder();
        for metric in ALL {
            let (name, help) = (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        Self(Arc::new(recorder))
    }

    pub fn handle(&self) -> PrometheusHandle {
        self.0.handle()
    }
}

/// A kind of handle that the registry makes: the same one for the same labels.
pub trait Handle: Sized {
    fn register(registry: &Registry, metric: &'static Metric, labels: &[&str]) -> Self;
}

fn key(metric: &'static Metric, kind: Kind, values: &[&str]) -> Key {
    debug_assert_eq!((metric.kind, metric.labels.len()), (kind, values.len()), "{}", metric.name);
    let labels: Vec<_> = metric.labels.iter().zip(values).map(|(l, v)| Label::new(*l, (*v).to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

impl Handle for Counter {
    fn register(registry: &Registry, metric: &'static Metric, labels: &[&str]) -> Self {
        registry.0.register_counter(&key(metric, Kind::Counter, labels), &METADATA)
    }
}

impl Handle for Gauge {
    fn register(registry: &Registry, metric: &'static Metric, labels: &[&str]) -> Self {
        registry.0.register_gauge(&key(metric, Kind::Gauge, labels), &METADATA)
    }
}

impl Handle for Histogram {
    fn register(registry: &Registry, metric: &'static Metric, labels: &[&str]) -> Self {
        registry.0.register_histogram(&key(metric, Kind::Histogram, labels), &METADATA)
    }
}

/// A label with few values, known when this is compiled.
pub trait Values: Copy + 'static {
    const ALL: &'static [Self];
    fn index(self) -> usize;
    fn name(self) -> &'static str;
}

/// Handles of a metric with one such label, all made at the start.
#[derive(Debug)]
pub struct ByValue<H>(Vec<H>);

impl<H: Handle> ByValue<H> {
    pub fn new<V: Values>(registry: &Registry, metric: &'static Metric) -> Self {
        Self(V::ALL.iter().map(|v| H::register(registry, metric, &[v.name()])).collect())
    }

    pub fn of(&self, value: impl Values) -> &H {
        self.0.get(value.index()).expect("made with every value of the label")
    }
}

/// Handles by API, each made at its first request: most of Kafka's APIs are never seen.
#[derive(Debug)]
pub struct ByApi<H> {
    registry: Registry,
    metric: &'static Metric,
    /// Behind the API's label.
    label: Option<&'static str>,
    handles: Box<[OnceLock<H>]>,
}

impl<H: Handle> ByApi<H> {
    pub fn new(registry: &Registry, metric: &'static Metric, label: Option<&'static str>) -> Self {
        let handles = (0..=API_KEYS).map(|_| OnceLock::new()).collect();
        Self { registry: registry.clone(), metric, label, handles }
    }

    pub fn of(&self, api_key: i16) -> &H {
        let index = usize::try_from(api_key).map_or(API_KEYS, |i| i.min(API_KEYS));
        let handle = self.handles.get(index).expect("bounded above");
        handle.get_or_init(|| {
            let mut labels = vec![if index < API_KEYS { api_name(api_key) } else { "unknown".to_owned() }];
            labels.extend(self.label.map(str::to_owned));
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            H::register(&self.registry, self.metric, &labels)
        })
    }
}

/// As Kafka names it; what a client made up is not made a label.
fn api_name(api_key: i16) -> String {
    ApiKey::try_from(api_key).map_or_else(|_| "unknown".to_owned(), |api| format!("{api:?}"))
}
