//! kafka-cutover: moves live producers and consumers from one Kafka cluster (the source) to another (the target) behind
//! one address.
//!
//! # The life of one request
//!
//! A client connects to a [`listener`], which hands the socket to a task on one worker thread, where it stays. The
//! [`connection`] reads frames with [`wire`] and starts each as it comes; answers leave in the order of the requests.
//! The [`api`] table says which APIs and versions there are; every other request ends the connection. Most of them go
//! through one bounded decoder and become a pure machine of the file named after the API: it asks, waits, answers.
//! Produce and Fetch have codecs of their own, so that record bytes travel uncopied and are rewritten in place.
//! What a client is told of the cluster comes from [`virtual_cluster`], and not from a broker. Where the request goes is
//! read from two snapshots in [`routing`]: what the clusters look like, and what seals have made of each partition.
//! [`offsets`] translates positions between the virtual log and the two real ones, [`groups`] does so for committed
//! offsets. [`producers`] puts the sequence gate in front of a side that has never seen a producer.
//! [`upstream`] takes the requests to the brokers, on connections that belong to this client alone. The answers are
//! merged, translated by the map that holds at that moment, and written back.
//!
//! Meanwhile an operator on the [`control`] socket runs the steps of a [`migration`], each behind its guards and
//! [`preflight`]. The step that matters is the [`seal`]: hold produce, settle what is on its way, read the end, write it
//! to the [`store`], swap the snapshot, release. What is in the store is all that a restart needs.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | source, target | the two clusters: [`ids::Side`] |
//! | downstream, upstream | towards clients; towards brokers |
//! | native, virtual | what a broker says (offset, node id, topic id, PID); what clients see |
//! | migration | a named set of topics with one scheme; everything in it switches together |
//! | scheme | in which order producers and consumers move: producers-first |
//! | splice map | per partition, the ordered segments that make up the virtual log |
//! | segment | a stretch of virtual offsets that lies on one side, from a native start |
//! | seal, seam | the act that ends a side's part of a partition; the boundary that it leaves |
//! | home | the side that coordinates a group |
//! | straggler | a record that appears on a sealed side: its producer does not come through the proxy |
//! | settle | in-flight produce reaches its outcome |
//! | drained, wind down | a group has read past the seam; a process stops taking work |
//! | step, guard, waive | one action of a scheme; why it may not run yet; the operator's recorded word that it is accepted |
//!
//! # The modules, in the order of the path
//!
//! Who reads a clock, a socket or a disk says so at the head of its file: `grep -r 'reason = "io:' src` lists them.

pub mod clock;
#[macro_use]
pub mod crash; // `crash_point!`: nothing, but in tests
pub mod error;
pub mod ids; // offsets, nodes, epochs, sides: what must not be mixed up

pub mod cli;
pub mod config;
pub mod proxy; // where the parts below become a process

pub mod listener; // 1. a client arrives
pub mod wire; // 2. bytes become frames
pub mod connection; // 3. one client's ordered pipeline
pub mod api; // 4. what a request means
pub mod virtual_cluster; // 5. what clients believe
pub mod routing; // 6. where it goes now
pub mod migration; // 7. the operator's unit
pub mod preflight; // what must be right before a migration moves
pub mod seal; // hold, settle, end, persist, release
pub mod offsets; // 8. which position it means
pub mod groups; // 9. who reads
pub mod producers; // 10. who writes
pub mod upstream; // 11. out to the brokers
pub mod mirror; // what is copied, and where it lies
pub mod store; // 12. what survives a crash
pub mod control; // 13. the operator
pub mod monitor; // 14. metrics, health, a page

pub mod audit; // the judge: lost, duplicated, reordered
pub mod demo; // the story
pub mod embedded; // an in-memory Kafka cluster
