package client;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** For each line `round` on stdin, all that an administrator does with a topic and a group, an event for each answer. */
final class Administer {
    static final String FLAGS = "bootstrap topic name group";
    /** How long a broker may take to hear of what another one was told. */
    private static final Duration HEARSAY = Duration.ofSeconds(30);

    private interface Question {
        Object ask() throws ExecutionException, InterruptedException;
    }

    private final Options options;
    private final Admin admin;
    private int round;

    private Administer(Options options, Admin admin) {
        this.options = options;
        this.admin = admin;
    }

    static int run(Options options) throws InterruptedException {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        try (Admin admin = Admin.create(options.withExtra(options.properties()))) {
            Administer driver = new Administer(options, admin);
            Events.emit("ready");
            while ("round".equals(input.readLine())) {
                driver.round++;
                driver.oneRound();
            }
        } catch (IOException ended) {
            // the same as the end of it
        }
        return 0;
    }

    private void oneRound() throws InterruptedException {
        String moving = options.need("topic");
        String own = moving + "-" + options.need("name") + "-" + round;
        TopicPartition first = new TopicPartition(own, 0);
        ask("describe-cluster", this::cluster);
        ask("moving-partitions", () -> partitions(moving));
        ask("moving-offsets", () -> offsets(moving));
        ask("moving-group", () -> members(options.need("group")));

        ask("create-topic", () -> admin.createTopics(List.of(new NewTopic(own, 1, (short) 1))).all().get());
        ask("partitions", () -> partitions(own));
        ask("create-partitions", () -> admin.createPartitions(Map.of(own, NewPartitions.increaseTo(2))).all().get());
        ask("more-partitions", () -> partitions(own));
        ask("alter-config", () -> alter(own, "retention.ms", "3600000"));
        ask("describe-config", () -> altered(own, "retention.ms", "3600000"));
        ask("produce", () -> produce(first));
        ask("offsets", () -> offsets(own));
        ask("delete-records", () ->
                admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(first).get().lowWatermark());
        ask("offsets-left", () -> offsets(own));

        ask("commit", () -> admin.alterConsumerGroupOffsets(own, Map.of(first, new OffsetAndMetadata(3))).all().get());
        ask("groups", () -> {
            List<String> ids = new ArrayList<>();
            admin.listConsumerGroups().all().get().forEach(group -> ids.add(group.groupId()));
            return mine(ids);
        });
        ask("committed", () -> admin.listConsumerGroupOffsets(own).partitionsToOffsetAndMetadata().get().get(first).offset());
        ask("delete-group", () -> admin.deleteConsumerGroups(List.of(own)).all().get());
        ask("delete-topic", () -> admin.deleteTopics(List.of(own)).all().get());
        ask("topics", () -> mine(admin.listTopics().names().get()));
        ask("end", () -> null);
    }

    private void ask(String question, Question of) throws InterruptedException {
        try {
            Events.emit("answer", "round", round, "q", question, "v", of.ask());
        } catch (ExecutionException error) {
            Events.emit("answer", "round", round, "q", question, "error", error.getCause().toString());
        } catch (RuntimeException error) {
            Events.emit("answer", "round", round, "q", question, "error", error.toString());
        }
    }

    private Map<String, Object> cluster() throws ExecutionException, InterruptedException {
        DescribeClusterResult result = admin.describeCluster();
        List<String> nodes = new ArrayList<>();
        for (Node node : result.nodes().get()) {
            nodes.add(node.host() + ":" + node.port());
        }
        return Map.of("id", result.clusterId().get(), "nodes", nodes);
    }

    private int partitions(String topic) throws ExecutionException, InterruptedException {
        return Versions.describe(admin, topic).partitions().size();
    }

    /** Added up over the topic's partitions. */
    private Map<String, Long> offsets(String topic) throws ExecutionException, InterruptedException {
        return Map.of("earliest", offsets(topic, OffsetSpec.earliest()), "latest", offsets(topic, OffsetSpec.latest()));
    }

    private long offsets(String topic, OffsetSpec spec) throws ExecutionException, InterruptedException {
        Map<TopicPartition, OffsetSpec> request = new HashMap<>();
        for (int partition = partitions(topic) - 1; partition >= 0; partition--) {
            request.put(new TopicPartition(topic, partition), spec);
        }
        return admin.listOffsets(request).all().get().values().stream().mapToLong(found -> found.offset()).sum();
    }

    private int members(String group) throws ExecutionException, InterruptedException {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size();
    }

    private Void alter(String topic, String key, String value) throws ExecutionException, InterruptedException {
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
    }

    /** A broker other than the one that was told may not have heard of it yet: on plain Kafka, too. */
    private String altered(String topic, String key, String value) throws ExecutionException, InterruptedException {
        long until = System.nanoTime() + HEARSAY.toNanos();
        while (System.nanoTime() < until) {
            try {
                if (config(topic, key).equals(value)) {
                    break;
                }
            } catch (ExecutionException unheard) {
                // it may not have heard of the topic itself
            }
            Thread.sleep(50);
        }
        return config(topic, key);
    }

    private String config(String topic, String key) throws ExecutionException, InterruptedException {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(key).value();
    }

    private Object produce(TopicPartition place) throws ExecutionException, InterruptedException {
        try (KafkaProducer<byte[], byte[]> producer =
                     new KafkaProducer<>(options.properties(), new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < 3; i++) {
                producer.send(new ProducerRecord<>(place.topic(), place.partition(), null, new byte[] {'x'})).get();
            }
        }
        return null;
    }

    /** Those whose names begin as this round's do. */
    private List<String> mine(Collection<String> names) {
        String prefix = options.need("topic") + "-" + options.need("name") + "-";
        List<String> found = new ArrayList<>();
        names.forEach(name -> {
            if (name.startsWith(prefix)) {
                found.add(name);
            }
        });
        return found;
    }
}
