//! What the operator wrote: YAML and environment in, a [`Config`] without contradictions out, or every problem at once.

pub mod address;
pub mod defaults;
pub mod load;
pub mod pattern;
pub mod problem;
pub mod schema;
pub mod secret;
pub mod tree;
pub mod validate;

pub use address::Address;
pub use load::{load, parse};
pub use pattern::Pattern;
pub use problem::{Problem, Problems};
pub use schema::{
    Advertise, Cluster, Config, Control, Limits, Listener, ListenerTls, Migration, Mirror, MirrorFrom, MirrorLimits,
    Monitor, Sasl, Scheme, Seal, State, Stragglers, Timeouts, Tls,
};
pub use secret::Secret;
