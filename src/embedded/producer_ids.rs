//! InitProducerId v0-5 and DescribeProducers v0. Producer ids are given in order from 0, on this cluster as on every other.
//! A transactional id's are given by its coordinator: `transactions`.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, InitProducerIdRequest, InitProducerIdResponse,
};

use super::{Call, transactions};

pub fn init_producer_id(call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut state = call.shared.lock();
    let given = match request.transactional_id {
        None => Ok((state.allocate_producer_id(), 0)),
        Some(id) if id.is_empty() => Err(E::InvalidRequest),
        Some(id) if state.coordinator(&id) != Some(call.node) => Err(E::NotCoordinator),
        Some(_) if request.transaction_timeout_ms <= 0 => Err(E::InvalidTransactionTimeout),
        Some(id) => {
            let named = (request.producer_id.0, request.producer_epoch);
            transactions::initialise(&mut state, &id, named, request.transaction_timeout_ms, call.now_ms)
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
