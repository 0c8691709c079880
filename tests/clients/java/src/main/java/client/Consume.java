package client;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads as a member of a group, or with positions of its own (--assign), one event for each record. */
final class Consume implements ConsumerRebalanceListener {
    static final String FLAGS = "bootstrap topic name group assign from commit isolation hold";

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final String commit;
    private final boolean ownCommits;
    private final Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
    private long received;
    /** After so many records it stands still: a member that polls and is given nothing. 0: never. */
    private long hold;
    private boolean held;

    private Consume(Options options) {
        String from = options.text("from", "earliest");
        commit = options.text("commit", "auto");
        hold = options.number("hold", 0);
        if (!List.of("auto", "sync", "async", "none").contains(commit)) {
            throw new IllegalArgumentException("--commit is auto, sync, async or none");
        }
        ownCommits = options.has("group") && (commit.equals("sync") || commit.equals("async"));
        Properties properties = options.properties("group", "group.id", "isolation", "isolation.level");
        if (!commit.equals("auto")) {
            properties.put("enable.auto.commit", "false");
        }
        if (!options.has("assign")) {
            if (!from.equals("earliest") && !from.equals("latest")) {
                throw new IllegalArgumentException("--from OFFSET and ts:MILLIS go with --assign");
            }
            options.need("group");
            properties.put("auto.offset.reset", from);
        }
        String topic = options.need("topic");
        consumer = new KafkaConsumer<>(options.withExtra(properties), new ByteArrayDeserializer(), new ByteArrayDeserializer());
        Events.emit("ready");
        if (options.has("assign")) {
            assign(options.need("assign"), topic, from);
        } else {
            consumer.subscribe(List.of(topic), this);
        }
    }

    private void assign(String numbers, String topic, String from) {
        List<TopicPartition> partitions = Arrays.stream(numbers.split(","))
                .map(number -> new TopicPartition(topic, Integer.parseInt(number))).toList();
        consumer.assign(partitions);
        onPartitionsAssigned(partitions);
        if (from.equals("earliest")) {
            consumer.seekToBeginning(partitions);
        } else if (from.equals("latest")) {
            consumer.seekToEnd(partitions);
        } else if (from.startsWith("ts:")) {
            Map<TopicPartition, Long> times = new HashMap<>();
            partitions.forEach(partition -> times.put(partition, Long.parseLong(from.substring(3))));
            for (Map.Entry<TopicPartition, OffsetAndTimestamp> found : consumer.offsetsForTimes(times).entrySet()) {
                if (found.getValue() == null) {
                    consumer.seekToEnd(List.of(found.getKey()));
                } else {
                    consumer.seek(found.getKey(), found.getValue().offset());
                }
            }
        } else {
            partitions.forEach(partition -> consumer.seek(partition, Long.parseLong(from)));
        }
    }

    static int run(Options options, Stop stop) {
        Consume driver = new Consume(options);
        stop.onWish(driver.consumer::wakeup);
        boolean failed = driver.poll(stop);
        try {
            if (driver.ownCommits && !failed) {
                driver.commitSync();
            }
            driver.consumer.close();
        } catch (WakeupException late) {
            driver.consumer.close();
        } catch (KafkaException error) {
            Events.log("ERRCB", "close: " + error);
            failed = true;
        }
        Events.emit("done", "received", driver.received);
        return failed ? 1 : 0;
    }

    /** Until the wish to stop, or an error that the client hands to its application; says whether it was an error. */
    private boolean poll(Stop stop) {
        while (!stop.wishedFor()) {
            try {
                if (held && stop.goesOn()) {
                    hold = 0;
                    held = false;
                    consumer.resume(consumer.assignment());
                }
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(500));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    received++;
                    Events.emit("recv", "pt", record.partition(), "o", record.offset(), "v", head(record.value()));
                    read.put(new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1, record.leaderEpoch(), ""));
                }
                if (hold > 0 && received >= hold) {
                    held = true;
                    consumer.pause(consumer.assignment());
                }
                if (ownCommits && !records.isEmpty()) {
                    if (commit.equals("sync")) {
                        commitSync();
                    } else {
                        consumer.commitAsync(Map.copyOf(read), this::committed);
                    }
                }
            } catch (WakeupException stopped) {
                continue; // the loop's condition says why
            } catch (RetriableException error) {
                Events.log("ERRCB", "poll: " + error);
            } catch (KafkaException error) {
                Events.log("ERRCB", "poll: " + error);
                return true;
            }
        }
        return false;
    }

    private void commitSync() {
        if (read.isEmpty()) {
            return;
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.copyOf(read);
        while (true) {
            try {
                consumer.commitSync(offsets);
                committed(offsets, null);
                return;
            } catch (WakeupException stopped) {
                continue; // the wish comes once: the second try is left alone
            } catch (KafkaException error) {
                committed(offsets, error);
                return;
            }
        }
    }

    private void committed(Map<TopicPartition, OffsetAndMetadata> offsets, Exception error) {
        Map<Integer, Long> plain = new TreeMap<>();
        offsets.forEach((partition, offset) -> plain.put(partition.partition(), offset.offset()));
        if (error == null) {
            Events.emit("commit", "ok", true, "offsets", plain);
        } else {
            Events.emit("commit", "ok", false, "offsets", plain, "error", error.toString());
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        if (held) {
            consumer.pause(partitions);
        }
        Events.emit("assign", "parts", numbers(partitions));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        if (ownCommits && commit.equals("sync")) {
            commitSync();
        }
        read.keySet().removeAll(partitions);
        Events.emit("revoke", "parts", numbers(partitions));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        read.keySet().removeAll(partitions);
        Events.emit("revoke", "parts", numbers(partitions), "lost", true);
    }

    private static List<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).sorted().toList();
    }

    /** The value without its padding: its first five words. */
    private static String head(byte[] value) {
        if (value == null) {
            return null;
        }
        int words = 0;
        int end = 0;
        while (end < value.length && (value[end] != ' ' || ++words < 5)) {
            end++;
        }
        return new String(value, 0, end, StandardCharsets.ISO_8859_1);
    }
}
