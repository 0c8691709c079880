//! The operator: a Unix socket that speaks HTTP and JSON, and the command line behind it.
//! The server knows nothing of the proxy: it has an [`Operator`], the proxy has the other ends.

pub mod client;
pub mod commands;
pub mod operator;
pub mod protocol;
pub mod render;
pub mod report;
pub mod server;
pub mod translate;

pub use client::Client;
pub use operator::{Ask, Operator, Peer};
pub use protocol::{Action, Command, Event, Outcome, Refusal, Status};
pub use server::{ControlSocket, serve};
