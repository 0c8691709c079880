//! DescribeLogDirs v1-4: one directory for each node, as big as its replicas' batches.

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Call;

const DISK: i64 = 1 << 40;

pub fn describe_log_dirs(call: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let state = call.shared.lock();
    let is_wanted = |topic: &str, partition: i32| {
        let wanted = request.topics.as_ref();
        wanted.is_none_or(|all| all.iter().any(|t| t.topic.as_str() == topic && t.partitions.contains(&partition)))
    };
    let mut dir = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(format!("/var/lib/kafka/{}", state.nodes[call.node].id)));
    let mut used = 0;
    for (name, topic) in &state.topics {
        let mut shown = DescribeLogDirsTopic::default().with_name(StrBytes::from_string(name.clone()).into());
        for (index, partition) in (0..).zip(&topic.partitions).filter(|(_, p)| p.replicas.contains(&call.node)) {
            let size = partition.log.batches().map(|b| b.header.size as i64).sum();
            used += size;
            if is_wanted(name, index) {
                let partition = DescribeLogDirsPartition::default().with_partition_index(index);
                shown.partitions.push(partition.with_partition_size(size));
            }
        }
        if !shown.partitions.is_empty() {
            dir.topics.push(shown);
        }
    }
    if call.version >= 4 {
        (dir.total_bytes, dir.usable_bytes) = (DISK, DISK - used);
    }
    DescribeLogDirsResponse::default().with_results(vec![dir])
}
