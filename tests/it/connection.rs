//! Connections to brokers: how long they are waited for, and in which order a group's requests take them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_cutover::connection::Session;
use kafka_cutover::connection::order::Order;
use kafka_cutover::upstream::connection::{ANSWER_PATIENCE, Connection, Limits};
use kafka_cutover::upstream::{Lane, Lost, Outgoing};
use kafka_cutover::wire::ChainWriter;
use kafka_protocol::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::api::world::World;

const DEADLINE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

type Answer = oneshot::Receiver<Result<Bytes, Lost>>;

/// Heartbeat v0: the answer is a code.
fn heartbeat(connection: &Connection, patience: Duration) -> Answer {
    let (done, answer) = oneshot::channel();
    let completion = Box::new(move |outcome| done.send(outcome).unwrap());
    let body = ChainWriter::new().finish().unwrap();
    let (api_key, version, client_id) = (12, 0, None);
    let request = Outgoing { api_key, version, client_id, body, answered: true, patience, completion };
    assert!(connection.send(request).is_ok());
    answer
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

/// A broker by hand, with a connection to it.
async fn connected() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { frame: 1 << 20, connect: DEADLINE, idle: LONG };
    let connection = Connection::open(listener.local_addr().unwrap().to_string(), limits);
    (connection, soon(listener.accept()).await.unwrap().0)
}

async fn receive(broker: &mut TcpStream) {
    let length = soon(broker.read_i32()).await.unwrap();
    soon(broker.read_exact(&mut vec![0; length as usize])).await.unwrap();
}

async fn answer(broker: &mut TcpStream, correlation: u8) {
    broker.write_all(&[0, 0, 0, 6, 0, 0, 0, correlation, 0, 0]).await.unwrap();
}

#[tokio::test]
async fn a_silent_broker_is_given_up_at_the_deadline_of_what_it_owes() {
    let test = async {
        let (connection, mut broker) = connected().await;
        let first = heartbeat(&connection, LONG);
        receive(&mut broker).await;
        answer(&mut broker, 0).await;
        assert_eq!(soon(first).await.unwrap(), Ok(Bytes::from_static(&[0, 0])));
        // Asked when the broker has just spoken, with more behind it: its own time counts, not a window of the reader's.
        let patience = Duration::from_millis(300);
        let asked = std::time::Instant::now();
        let (second, third) = (heartbeat(&connection, patience), heartbeat(&connection, LONG));
        for unanswered in [second, third] {
            let lost = soon(unanswered).await.unwrap();
            assert!(matches!(&lost, Err(Lost::Unknown(_))), "{lost:?}");
        }
        assert!(asked.elapsed() >= patience);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn who_waits_behind_a_patient_one_waits_too() {
    let test = async {
        let (connection, mut broker) = connected().await;
        let first = heartbeat(&connection, LONG);
        let second = heartbeat(&connection, Duration::ZERO);
        receive(&mut broker).await;
        receive(&mut broker).await;
        // Whatever was given up at the second's time is given up by now.
        soon(heartbeat_of_another().await).await.unwrap().unwrap_err();
        broker.write_all(&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0]).await.unwrap();
        for answered in [first, second] {
            assert_eq!(soon(answered).await.unwrap(), Ok(Bytes::from_static(&[0, 0])));
        }
    };
    LocalSet::new().run_until(test).await;
}

/// Never answered, given up at once.
async fn heartbeat_of_another() -> Answer {
    let (connection, broker) = connected().await;
    let unanswered = heartbeat(&connection, Duration::ZERO);
    // The connection ends with its handle and its broker, which outlive the answer here.
    tokio::task::spawn_local(async move {
        let _both = (connection, broker);
        std::future::pending::<()>().await
    });
    unanswered
}

#[tokio::test]
async fn a_member_is_waited_for_as_long_as_its_group_may_take() {
    let World { shared, nodes, .. } = World::new();
    let session = Session::new(Arc::new(shared), Arc::new(nodes), "127.0.0.1:1".parse().unwrap());
    let seconds = |request| session.patience(&request).as_secs();
    assert_eq!(seconds(SyncGroupRequest::default().into()), ANSWER_PATIENCE.as_secs());
    let join = JoinGroupRequest::default().with_session_timeout_ms(200_000);
    assert_eq!(seconds(join.clone().with_rebalance_timeout_ms(600_000).into()), 630);
    assert_eq!(seconds(SyncGroupRequest::default().into()), 630);
    assert_eq!(seconds(HeartbeatRequest::default().into()), ANSWER_PATIENCE.as_secs());
    // v0 has none; a short one is not hurried.
    assert_eq!(seconds(join.with_rebalance_timeout_ms(-1).into()), 230);
    assert_eq!(seconds(JoinGroupRequest::default().with_rebalance_timeout_ms(0).into()), ANSWER_PATIENCE.as_secs());
}

#[test]
fn a_join_waits_for_the_answer_to_the_commit_before_it() {
    let order = Rc::new(Order::default());
    let commit = order.enter("g", Lane::Ordinary);
    let join = order.enter("g", Lane::Rebalance);
    let other = order.enter("another", Lane::Rebalance);
    let heartbeat = order.enter("g", Lane::Ordinary);
    assert!(other.turn().now_or_never().is_some(), "another group's is none of its business");
    // The commit's coordinator is not known yet, the heartbeat's is by now.
    assert!(heartbeat.turn().now_or_never().is_none());
    let mut joining = Box::pin(join.turn());
    assert!(joining.as_mut().now_or_never().is_none());
    assert!(commit.turn().now_or_never().is_some());
    assert!(heartbeat.turn().now_or_never().is_some(), "on one connection sent is enough");
    assert!(joining.as_mut().now_or_never().is_none());
    // A heartbeat that came later is not waited for.
    drop(commit);
    assert!(joining.now_or_never().is_some());
}

#[tokio::test]
async fn who_waits_for_what_came_before_is_woken() {
    let order = Rc::new(Order::default());
    let commit = order.enter("g", Lane::Ordinary);
    let join = order.enter("g", Lane::Rebalance);
    let answered = async {
        tokio::task::yield_now().await;
        drop(commit);
    };
    soon(async { tokio::join!(join.turn(), answered) }).await;
}
