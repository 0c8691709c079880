package client;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;

/** One question or order to the cluster by the admin client; a line for each part of the answer. */
final class Ask {
    static final String FLAGS = "bootstrap topic name spec partitions replication group";

    private Ask() { }

    static int run(String command, Options options) throws InterruptedException {
        try (Admin admin = Admin.create(options.withExtra(options.properties()))) {
            switch (command) {
                case "offsets" -> offsets(admin, options);
                case "committed" -> committed(admin, options);
                case "create-topic" -> {
                    NewTopic topic = new NewTopic(options.need("topic"), (int) options.number("partitions", 1),
                            (short) options.number("replication", 1));
                    String id = admin.createTopics(List.of(topic)).topicId(topic.name()).get().toString();
                    Events.emit("topic", "topic", topic.name(), "id", id);
                }
                case "delete-topic" -> {
                    admin.deleteTopics(List.of(options.need("topic"))).all().get();
                    Events.emit("topic", "topic", options.need("topic"), "id", null);
                }
                case "describe-cluster" -> describe(admin);
                default -> throw new IllegalArgumentException("unknown command " + command);
            }
            return 0;
        } catch (ExecutionException error) {
            Events.log("ERROR", command + ": " + error.getCause());
            return 1;
        }
    }

    private static void offsets(Admin admin, Options options) throws ExecutionException, InterruptedException {
        String topic = options.need("topic");
        String spec = options.text("spec", "latest");
        OffsetSpec asked = spec.equals("earliest") ? OffsetSpec.earliest()
                : spec.equals("latest") ? OffsetSpec.latest()
                : OffsetSpec.forTimestamp(Long.parseLong(spec.substring(spec.indexOf(':') + 1)));
        TopicDescription description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Map<TopicPartition, OffsetSpec> request = description.partitions().stream()
                .collect(Collectors.toMap(info -> new TopicPartition(topic, info.partition()), info -> asked));
        Map<Integer, ListOffsetsResultInfo> found = new TreeMap<>();
        admin.listOffsets(request).all().get().forEach((partition, info) -> found.put(partition.partition(), info));
        found.forEach((partition, info) ->
                Events.emit("offset", "pt", partition, "o", info.offset(), "ts", info.timestamp(), "epoch", info.leaderEpoch().orElse(-1)));
    }

    private static void committed(Admin admin, Options options) throws ExecutionException, InterruptedException {
        Map<Integer, OffsetAndMetadata> found = new TreeMap<>();
        admin.listConsumerGroupOffsets(options.need("group")).partitionsToOffsetAndMetadata().get().forEach((partition, offset) -> {
            if (offset != null && partition.topic().equals(options.need("topic"))) {
                found.put(partition.partition(), offset);
            }
        });
        found.forEach((partition, offset) -> Events.emit("committed", "pt", partition, "o", offset.offset(),
                "epoch", offset.leaderEpoch().orElse(-1), "metadata", offset.metadata()));
    }

    private static void describe(Admin admin) throws ExecutionException, InterruptedException {
        DescribeClusterResult result = admin.describeCluster();
        List<Map<String, Object>> nodes = result.nodes().get().stream()
                .map(node -> Map.<String, Object>of("id", node.id(), "host", node.host(), "port", node.port())).toList();
        Node controller = result.controller().get();
        Events.emit("cluster", "id", result.clusterId().get(), "controller", controller == null ? -1 : controller.id(), "nodes", nodes);
    }
}
