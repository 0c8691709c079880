package client;

import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends records of the audit's format, one event for each outcome. */
final class Produce {
    static final String FLAGS = "bootstrap topic name records rate keys acks idempotent compression size partition transactional-id";

    private Produce() { }

    static int run(Options options, Stop stop) throws InterruptedException {
        String topic = options.need("topic");
        String name = options.need("name");
        long records = options.number("records", 0);
        double rate = Double.parseDouble(options.text("rate", "0"));
        long keys = options.number("keys", 16);
        int size = (int) options.number("size", 0);
        Integer partition = options.has("partition") ? (int) options.number("partition", 0) : null;
        boolean logSends = options.has("log-sends");
        Properties properties = options.withExtra(options.properties(
                "acks", "acks", "idempotent", "enable.idempotence", "compression", "compression.type",
                "transactional-id", "transactional.id"));
        Transactions transactions = options.has("transactional-id") ? new Transactions() : null;

        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        long sent = 0;
        try (KafkaProducer<byte[], byte[]> producer =
                     new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactions != null) {
                producer.initTransactions();
            }
            Events.emit("ready");
            long start = System.nanoTime();
            while (records == 0 || sent < records) {
                if (rate > 0 ? stop.by(start + (long) (sent * 1e9 / rate)) : stop.wishedFor()) {
                    break;
                }
                long seq = sent++;
                String key = "k" + seq % keys;
                String id = String.format(Locale.ROOT, "%016x", ThreadLocalRandom.current().nextLong());
                if (logSends) {
                    Events.emit("send", "s", seq, "k", key, "id", id);
                }
                if (transactions != null) {
                    transactions.before(producer, seq, acked);
                }
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, partition,
                        key.getBytes(StandardCharsets.US_ASCII), value(name, seq, key, id, size));
                try {
                    producer.send(record, (written, error) -> {
                        if (error == null && transactions != null) {
                            transactions.written("s", seq, "k", key, "id", id, "pt", written.partition(), "o", written.offset());
                        } else if (error == null) {
                            acked.incrementAndGet();
                            Events.emit("ack", "s", seq, "k", key, "id", id, "pt", written.partition(), "o", written.offset());
                        } else {
                            failed.incrementAndGet();
                            Events.emit("fail", "s", seq, "k", key, "id", id, "error", error.toString());
                        }
                    });
                } catch (RuntimeException error) { // refused before it was queued
                    failed.incrementAndGet();
                    Events.emit("fail", "s", seq, "k", key, "id", id, "error", error.toString());
                }
            }
            producer.flush();
            if (transactions != null) {
                transactions.end(producer, acked);
            }
        }
        Events.emit("done", "sent", sent, "acked", acked.get(), "failed", failed.get());
        return 0;
    }

    private static byte[] value(String name, long seq, String key, String id, int size) {
        String head = "kc1 " + name + " " + seq + " " + key + " " + id;
        int padding = size - head.length() - 1;
        return (padding > 0 ? head + " " + "x".repeat(padding) : head).getBytes(StandardCharsets.US_ASCII);
    }
}
