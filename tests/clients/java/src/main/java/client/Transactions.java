package client;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;

/** Every {@value #RECORDS} records are a transaction, and every {@value #ABORTS}th of these is aborted. Acknowledged is what is committed. */
final class Transactions {
    private static final long RECORDS = 20;
    private static final long ABORTS = 4;

    private final List<Object[]> written = new ArrayList<>();
    private long number = -1;

    void before(KafkaProducer<?, ?> producer, long seq, AtomicLong acked) {
        if (seq / RECORDS != number) {
            end(producer, acked);
            producer.beginTransaction();
            number = seq / RECORDS;
        }
    }

    synchronized void written(Object... ack) {
        written.add(ack);
    }

    /** Ends the one that is open. What is aborted is in the log by then. */
    void end(KafkaProducer<?, ?> producer, AtomicLong acked) {
        if (number < 0) {
            return;
        }
        producer.flush();
        boolean aborts = number % ABORTS == ABORTS - 1;
        if (aborts) {
            producer.abortTransaction();
        } else {
            producer.commitTransaction();
        }
        synchronized (this) {
            for (Object[] ack : aborts ? List.<Object[]>of() : written) {
                acked.incrementAndGet();
                Events.emit("ack", ack);
            }
            written.clear();
        }
        number = -1;
    }
}
