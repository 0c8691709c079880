package client;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;

/** Where a topic's partitions begin or end, or what was written when; a line for each partition. */
final class Ask {
    static final String FLAGS = "bootstrap topic name spec";

    private Ask() { }

    static int run(Options options) throws InterruptedException {
        try (Admin admin = Admin.create(options.withExtra(options.properties()))) {
            offsets(admin, options);
            return 0;
        } catch (ExecutionException error) {
            Events.log("ERROR", "offsets: " + error.getCause());
            return 1;
        }
    }

    private static void offsets(Admin admin, Options options) throws ExecutionException, InterruptedException {
        String topic = options.need("topic");
        String spec = options.text("spec", "latest");
        OffsetSpec asked = spec.equals("earliest") ? OffsetSpec.earliest()
                : spec.equals("latest") ? OffsetSpec.latest()
                : OffsetSpec.forTimestamp(Long.parseLong(spec.substring(spec.indexOf(':') + 1)));
        Map<TopicPartition, OffsetSpec> request = Versions.describe(admin, topic).partitions().stream()
                .collect(Collectors.toMap(info -> new TopicPartition(topic, info.partition()), info -> asked));
        Map<Integer, ListOffsetsResultInfo> found = new TreeMap<>();
        admin.listOffsets(request).all().get().forEach((partition, info) -> found.put(partition.partition(), info));
        found.forEach((partition, info) ->
                Events.emit("offset", "pt", partition, "o", info.offset(), "ts", info.timestamp(), "epoch", info.leaderEpoch().orElse(-1)));
    }
}
