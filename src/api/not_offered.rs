//! The other half of the table: what brokers offer their clients and the proxy does not, and why. Such a request ends
//! the connection, as one that a broker does not know does.

/// One line: key, Kafka's name, the reason.
pub struct NotOffered {
    pub key: i16,
    pub name: &'static str,
    pub why: &'static str,
}

const EPOCHLESS: &str = "clients that are shown no leader epochs have nothing to validate, and skip it";
const BROKERS: &str =
    "it is between brokers, or names them, and they are not visible here: run it against the cluster itself";
const AUTHENTICATION: &str = "listeners do not authenticate yet";
const TOKENS: &str = "a delegation token is good on the cluster that issued it, not on the other one";
const SHARE: &str = "share groups have no place on the target to move to yet";
const STREAMS: &str = "the codec does not have the groups of Kafka Streams (KIP-1071)";
const TELEMETRY: &str = "each cluster would give clients an instance id of its own (KIP-714)";

const fn not(key: i16, name: &'static str, why: &'static str) -> NotOffered {
    NotOffered { key, name, why }
}

pub const NOT_OFFERED: &[NotOffered] = &[
    not(4, "LeaderAndIsr", BROKERS),
    not(5, "StopReplica", BROKERS),
    not(6, "UpdateMetadata", BROKERS),
    not(7, "ControlledShutdown", BROKERS),
    not(17, "SaslHandshake", AUTHENTICATION),
    not(23, "OffsetForLeaderEpoch", EPOCHLESS),
    not(27, "WriteTxnMarkers", BROKERS),
    not(36, "SaslAuthenticate", AUTHENTICATION),
    not(38, "CreateDelegationToken", TOKENS),
    not(39, "RenewDelegationToken", TOKENS),
    not(40, "ExpireDelegationToken", TOKENS),
    not(41, "DescribeDelegationToken", TOKENS),
    not(55, "DescribeQuorum", BROKERS),
    not(56, "AlterPartition", BROKERS),
    not(57, "UpdateFeatures", BROKERS),
    not(64, "UnregisterBroker", BROKERS),
    not(71, "GetTelemetrySubscriptions", TELEMETRY),
    not(72, "PushTelemetry", TELEMETRY),
    not(75, "DescribeTopicPartitions", "clients ask by Metadata in its place"),
    not(76, "ShareGroupHeartbeat", SHARE),
    not(77, "ShareGroupDescribe", SHARE),
    not(78, "ShareFetch", SHARE),
    not(79, "ShareAcknowledge", SHARE),
    not(80, "AddRaftVoter", BROKERS),
    not(81, "RemoveRaftVoter", BROKERS),
    not(83, "InitializeShareGroupState", BROKERS),
    not(84, "ReadShareGroupState", BROKERS),
    not(85, "WriteShareGroupState", BROKERS),
    not(86, "DeleteShareGroupState", BROKERS),
    not(87, "ReadShareGroupStateSummary", BROKERS),
    not(88, "StreamsGroupHeartbeat", STREAMS),
    not(89, "StreamsGroupDescribe", STREAMS),
    not(90, "DescribeShareGroupOffsets", SHARE),
    not(91, "AlterShareGroupOffsets", SHARE),
    not(92, "DeleteShareGroupOffsets", SHARE),
];

/// Why an API is not offered; `None`: it is, in other versions, or nobody knows it.
pub fn why(key: i16) -> Option<&'static NotOffered> {
    NOT_OFFERED.iter().find(|api| api.key == key)
}
