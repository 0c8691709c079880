"""What kafka-python's admin client can do."""

from kafka import KafkaAdminClient, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec


class Admin:
    def __init__(self, args, properties):
        self.properties = properties
        self.admin = KafkaAdminClient(**properties)

    def cluster(self):
        found = self.admin.describe_cluster()
        return {"id": found["cluster_id"], "nodes": [f"{node['host']}:{node['port']}" for node in found["brokers"]]}

    def partitions(self, topic):
        found = self.admin.describe_topics([topic])[0]
        if found["error_code"]:
            raise RuntimeError(f"error {found['error_code']}")
        return len(found["partitions"])

    def offsets(self, topic):
        places = [TopicPartition(topic, part) for part in range(self.partitions(topic))]

        def total(spec):
            found = self.admin.list_partition_offsets({place: spec for place in places})
            return sum(one.offset for one in found.values())
        return {"earliest": total(OffsetSpec.EARLIEST), "latest": total(OffsetSpec.LATEST)}

    def members(self, group):
        return len(self.admin.describe_groups([group])[group]["members"])

    def create_topic(self, topic):
        self.admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})

    def create_partitions(self, topic, count):
        self.admin.create_partitions({topic: count})

    def alter_config(self, topic, key, value):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})])

    def config(self, topic, key):
        asked = ConfigResource(ConfigResourceType.TOPIC, topic, {key: None})
        found = next(iter(self.admin.describe_configs([asked]).values()))
        return found[topic][key]["value"]

    def produce(self, topic):
        producer = KafkaProducer(**self.properties)
        for _ in range(3):
            producer.send(topic, b"x", partition=0).get(60)
        producer.close()

    def delete_records(self, topic, before):
        place = TopicPartition(topic, 0)
        return self.admin.delete_records({place: before})[place]["low_watermark"]

    def commit(self, group, topic, offset):
        outcome = self.admin.alter_group_offsets(group, {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)})
        for error in outcome.values():
            if error.errno:
                raise error()

    def groups(self):
        return [group["group_id"] for group in self.admin.list_groups()]

    def committed(self, group, topic):
        place = TopicPartition(topic, 0)
        return self.admin.list_group_offsets({group: [place]})[group][place].offset

    def delete_group(self, group):
        self.admin.delete_groups([group])

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def topics(self):
        return self.admin.list_topics()
