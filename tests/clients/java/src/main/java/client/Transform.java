package client;

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Consume, transform, produce, exactly once: each poll's records go to another topic in one transaction with their positions. */
final class Transform implements ConsumerRebalanceListener {
    static final String FLAGS = "bootstrap topic out name group transactional-id";

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final KafkaProducer<byte[], byte[]> producer;
    private final String out;
    private long written;

    private Transform(Options options) {
        out = options.need("out");
        Properties reads = options.withExtra(options.properties("group", "group.id"));
        reads.put("enable.auto.commit", "false");
        reads.put("isolation.level", "read_committed");
        reads.put("auto.offset.reset", "earliest");
        reads.put("max.poll.records", "50");
        Properties writes = options.properties("transactional-id", "transactional.id");
        producer = new KafkaProducer<>(writes, new ByteArraySerializer(), new ByteArraySerializer());
        producer.initTransactions();
        consumer = new KafkaConsumer<>(reads, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(options.need("topic")), this);
        Events.emit("ready");
    }

    static int run(Options options, Stop stop) {
        Transform driver = new Transform(options);
        stop.onWish(driver.consumer::wakeup);
        boolean failed = driver.loop(stop);
        driver.consumer.close();
        driver.producer.close();
        Events.emit("done", "received", driver.written);
        return failed ? 1 : 0;
    }

    private boolean loop(Stop stop) {
        while (!stop.wishedFor()) {
            ConsumerRecords<byte[], byte[]> records;
            try {
                records = consumer.poll(Duration.ofMillis(200));
            } catch (WakeupException stopped) {
                continue; // the loop's condition says why
            }
            if (records.isEmpty()) {
                continue;
            }
            try {
                transform(records);
            } catch (ProducerFencedException fenced) {
                Events.log("ERRCB", "fenced: " + fenced);
                return true;
            } catch (WakeupException stopped) {
                abort();
            } catch (KafkaException error) {
                // As Kafka's own documentation has it: abort, and read again what was not committed.
                Events.log("INFO", "aborted: " + error);
                abort();
            }
        }
        return false;
    }

    private void transform(ConsumerRecords<byte[], byte[]> records) {
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        producer.beginTransaction();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            producer.send(new ProducerRecord<>(out, record.partition(), record.key(), record.value()));
            read.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        producer.sendOffsetsToTransaction(read, consumer.groupMetadata());
        producer.commitTransaction();
        written += records.count();
    }

    private void abort() {
        producer.abortTransaction();
        Set<TopicPartition> assigned = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(assigned);
        for (TopicPartition partition : assigned) {
            OffsetAndMetadata at = committed.get(partition);
            if (at == null) {
                consumer.seekToBeginning(List.of(partition));
            } else {
                consumer.seek(partition, at.offset());
            }
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        Events.emit("assign", "parts", numbers(partitions));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        Events.emit("revoke", "parts", numbers(partitions));
    }

    private static List<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).sorted().toList();
    }
}
