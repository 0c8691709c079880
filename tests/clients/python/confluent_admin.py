"""What librdkafka's admin client can do. Versions before 2.3 ask with older means, where there are any."""

import confluent_kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka import admin as kafka

SECONDS = 60
NEW = confluent_kafka.libversion()[1] >= 0x02030000


class Admin:
    def __init__(self, args, properties):
        self.plain = {"bootstrap.servers": args.bootstrap, "client.id": args.name}
        self.admin = kafka.AdminClient({**properties, **args.extra})
        if NEW:
            self.delete_records = self._delete_records

    def cluster(self):
        if NEW:
            found = self.admin.describe_cluster(request_timeout=SECONDS).result()
            return {"id": found.cluster_id, "nodes": [f"{node.host}:{node.port}" for node in found.nodes]}
        found = self.admin.list_topics(timeout=SECONDS)
        return {"id": found.cluster_id, "nodes": [f"{node.host}:{node.port}" for node in found.brokers.values()]}

    def partitions(self, topic):
        if NEW:
            asked = confluent_kafka.TopicCollection([topic])
            return len(self.admin.describe_topics(asked, request_timeout=SECONDS)[topic].result().partitions)
        # Not of this topic alone: it would ask for that again and again, and so have it made anew when it is deleted.
        return len(self.admin.list_topics(timeout=SECONDS).topics[topic].partitions)

    def offsets(self, topic):
        places = [TopicPartition(topic, part) for part in range(self.partitions(topic))]
        if NEW:
            def total(spec):
                found = self.admin.list_offsets({place: spec for place in places}, request_timeout=SECONDS)
                return sum(one.result().offset for one in found.values())
            return {"earliest": total(kafka.OffsetSpec.earliest()), "latest": total(kafka.OffsetSpec.latest())}
        consumer = Consumer({**self.plain, "group.id": "none"})
        ends = [consumer.get_watermark_offsets(place, SECONDS) for place in places]
        consumer.close()
        return {"earliest": sum(low for low, _ in ends), "latest": sum(high for _, high in ends)}

    def members(self, group):
        return len(self._one(self.admin.describe_consumer_groups([group], request_timeout=SECONDS)).members)

    def create_topic(self, topic):
        self._one(self.admin.create_topics([kafka.NewTopic(topic, 1, 1)], request_timeout=SECONDS))

    def create_partitions(self, topic, count):
        self._one(self.admin.create_partitions([kafka.NewPartitions(topic, count)], request_timeout=SECONDS))

    def alter_config(self, topic, key, value):
        resource = kafka.ConfigResource(kafka.ConfigResource.Type.TOPIC, topic)
        if NEW:
            set_it = kafka.ConfigEntry(key, value, incremental_operation=kafka.AlterConfigOpType.SET)
            resource.add_incremental_config(set_it)
            self._one(self.admin.incremental_alter_configs([resource], request_timeout=SECONDS))
        else:
            resource.set_config(key, value)
            self._one(self.admin.alter_configs([resource], request_timeout=SECONDS))

    def config(self, topic, key):
        resource = kafka.ConfigResource(kafka.ConfigResource.Type.TOPIC, topic)
        return self._one(self.admin.describe_configs([resource], request_timeout=SECONDS))[key].value

    def produce(self, topic):
        errors = []
        producer = Producer(self.plain)
        for _ in range(3):
            producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: errors.append(error))
        producer.flush(SECONDS)
        if errors != [None] * 3:
            raise RuntimeError(f"outcomes of three records: {errors}")

    def _delete_records(self, topic, before):
        return self._one(self.admin.delete_records([TopicPartition(topic, 0, before)], request_timeout=SECONDS)).low_watermark

    def commit(self, group, topic, offset):
        places = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, offset)])
        for place in self._one(self.admin.alter_consumer_group_offsets([places], request_timeout=SECONDS)).topic_partitions:
            if place.error:
                raise confluent_kafka.KafkaException(place.error)

    def groups(self):
        found = self.admin.list_consumer_groups(request_timeout=SECONDS).result()
        if found.errors:
            raise found.errors[0]
        return [group.group_id for group in found.valid]

    def committed(self, group, topic):
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
        return self._one(self.admin.list_consumer_group_offsets([asked], request_timeout=SECONDS)).topic_partitions[0].offset

    def delete_group(self, group):
        self._one(self.admin.delete_consumer_groups([group], request_timeout=SECONDS))

    def delete_topic(self, topic):
        self._one(self.admin.delete_topics([topic], request_timeout=SECONDS))

    def topics(self):
        return list(self.admin.list_topics(timeout=SECONDS).topics)

    @staticmethod
    def _one(futures):
        return next(iter(futures.values())).result()
