//! InitProducerId v0-5 and DescribeProducers v0. Producer ids are given in order from 0, on this cluster as on every other.
//! Left out: everything a transaction needs after InitProducerId.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, InitProducerIdRequest, InitProducerIdResponse,
};

use super::Call;
use super::state::State;

pub fn init_producer_id(call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut state = call.shared.lock();
    let given = match request.transactional_id {
        None => Ok((state.allocate_producer_id(), 0)),
        Some(id) if id.is_empty() => Err(E::InvalidRequest),
        Some(id) if state.coordinator(&id) != Some(call.node) => Err(E::NotCoordinator),
        Some(_) if request.transaction_timeout_ms <= 0 => Err(E::InvalidTransactionTimeout),
        Some(id) => {
            let known = (request.producer_id.0, request.producer_epoch);
            transactional(&mut state, &id, known, request.transaction_timeout_ms)
        }
    };
    match given {
        Ok((id, epoch)) => InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(epoch),
        // Before v4 clients do not know the code.
        Err(E::ProducerFenced) if call.version < 4 => refused(E::InvalidProducerEpoch),
        Err(error) => refused(error),
    }
}

fn refused(error: E) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

/// Every initialisation bumps the epoch; a producer that names its id and epoch must name the current ones (KIP-360).
fn transactional(state: &mut State, id: &str, named: (i64, i16), timeout_ms: i32) -> Result<(i64, i16), E> {
    let known = state.transactional_ids.get(id).copied();
    let next = match known {
        Some((pid, epoch, _)) if named.0 >= 0 && (pid, epoch) != named => return Err(E::ProducerFenced),
        Some((pid, epoch, _)) if epoch < i16::MAX - 1 => (pid, epoch + 1),
        _ => (state.allocate_producer_id(), 0),
    };
    state.transactional_ids.insert(id.to_owned(), (next.0, next.1, timeout_ms));
    Ok(next)
}

pub fn describe_producers(call: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut state = call.shared.lock();
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let mut answer = TopicResponse::default().with_name(topic.name.clone());
        for index in topic.partition_indexes {
            let mut part = PartitionResponse::default().with_partition_index(index);
            match state.led(call.node, &topic.name, index, -1) {
                Ok(found) => {
                    let producer = |(&id, p): (&i64, &super::producer_state::Producer)| {
                        ProducerState::default()
                            .with_producer_id(id.into())
                            .with_producer_epoch(i32::from(p.epoch))
                            .with_last_sequence(p.last_sequence())
                            .with_last_timestamp(p.last_timestamp())
                            .with_coordinator_epoch(-1)
                            .with_current_txn_start_offset(p.open_transaction.unwrap_or(-1))
                    };
                    part.active_producers = found.log.producers.iter().map(producer).collect();
                }
                Err(error) => part.error_code = error.code(),
            }
            answer.partitions.push(part);
        }
        response.topics.push(answer);
    }
    response
}
