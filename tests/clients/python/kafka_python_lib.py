"""kafka-python: the client in pure Python."""

import json
import threading
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

import kafka_python_admin
import record


def properties(args, events):
    events.logger("kafka")
    return {"bootstrap_servers": args.bootstrap.split(","), "client_id": args.name}


def extra(args):
    """-X some.property=value as some_property=value, numbers and booleans as such."""
    def plain(text):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return {key.replace(".", "_"): plain(text) for key, text in args.extra.items()}


def admin(args, events):
    return kafka_python_admin.Admin(args, {**properties(args, events), **extra(args)})


# --- produce ---


def produce(args, events, stop):
    config = properties(args, events)
    if args.acks is not None:
        config["acks"] = args.acks if args.acks == "all" else int(args.acks)
    if args.idempotent is not None:
        config["enable_idempotence"] = args.idempotent == "true"
    if args.compression is not None:
        config["compression_type"] = None if args.compression == "none" else args.compression
    producer = KafkaProducer(**{**config, **extra(args)})
    counts = {"sent": 0, "acked": 0, "failed": 0}
    lock = threading.Lock()  # outcomes come from its thread, refusals from ours

    def send(seq):
        key, identity = f"k{seq % args.keys}", record.identity()
        if args.log_sends:
            events.emit("send", s=seq, k=key, id=identity)

        def acked(written):
            with lock:
                counts["acked"] += 1
            offset = -1 if written.offset is None or args.acks == "0" else written.offset  # it says 0 where nobody told it
            events.emit("ack", s=seq, k=key, id=identity, pt=written.partition, o=offset)

        def failed(error):
            with lock:
                counts["failed"] += 1
            events.emit("fail", s=seq, k=key, id=identity, error=repr(error))

        value = record.value(args.name, seq, key, identity, args.size)
        try:
            producer.send(args.topic, value, key.encode(), partition=args.partition).add_callback(acked).add_errback(failed)
        except KafkaError as error:
            failed(error)

    events.emit("ready")
    start = time.monotonic()
    while not (args.records and counts["sent"] >= args.records):
        if stop.wait(record.due(args, start, counts["sent"])) if args.rate else stop.is_set():
            break
        counts["sent"] += 1
        send(counts["sent"] - 1)
    try:
        producer.flush()
        producer.close()
    except KafkaError as error:
        events.emit("log", level="ERRCB", text=f"flush: {error!r}")
    events.emit("done", **counts)
    return 0


# --- consume ---

# Seconds. Now and then a member joins and is never given anything, on plain Kafka too: each of its own commits then says that a
# rebalance is under way. It begins anew.
STUCK = 45


class Listener(ConsumerRebalanceListener):
    def __init__(self, events, positions):
        self.events, self.positions, self.was_given = events, positions, False

    def on_partitions_assigned(self, assigned):
        self.was_given = self.was_given or bool(assigned)
        self.events.emit("assign", parts=sorted(one.partition for one in assigned))

    def on_partitions_revoked(self, revoked):
        self._forget(revoked)
        self.events.emit("revoke", parts=sorted(one.partition for one in revoked))

    def on_partitions_lost(self, lost):
        self._forget(lost)
        self.events.emit("revoke", parts=sorted(one.partition for one in lost), lost=True)

    def _forget(self, parts):
        for part in parts:
            self.positions.pop(part, None)


def consume(args, events, stop):
    def committed(offsets, response):
        outcome = {"ok": False, "error": repr(response)} if isinstance(response, Exception) else {"ok": True}
        events.emit("commit", **outcome, offsets={str(part.partition): place.offset for part, place in offsets.items()})

    config = {**properties(args, events), "group_id": args.group}
    if args.commit != record.AUTO or args.group is None:
        config["enable_auto_commit"] = False
    else:
        config["default_offset_commit_callback"] = committed
    if args.isolation:
        config["isolation_level"] = args.isolation
    if args.assign is None:
        config["auto_offset_reset"] = args.start
    def begin():
        return KafkaConsumer(**{**config, **extra(args)})

    consumer = begin()
    events.emit("ready")

    own_commits = args.group and args.commit in (record.SYNC, record.ASYNC)
    positions = {}  # of the partitions that are ours
    received, code = 0, 0
    try:
        listener, since = join(consumer, args, events, positions), time.monotonic()
        while not stop.is_set():
            if listener and not listener.was_given and time.monotonic() - since > STUCK:
                consumer.close(autocommit=False)
                consumer = begin()
                listener, since = join(consumer, args, events, positions), time.monotonic()
            before = received
            for part, messages in consumer.poll(100).items():
                for message in messages:
                    received += 1
                    events.emit("recv", pt=message.partition, o=message.offset, v=record.head(message.value))
                positions[part] = OffsetAndMetadata(messages[-1].offset + 1, "", -1)
            if received > before and own_commits:
                if args.commit == record.SYNC:
                    commit(consumer, positions, committed)
                else:
                    consumer.commit_async(dict(positions), committed)
        if positions and own_commits:
            commit(consumer, positions, committed)
        consumer.close()
    except KafkaError as error:
        events.emit("log", level="ERRCB", text=f"poll: {error!r}")
        code = 1
    events.emit("done", received=received)
    return code


def join(consumer, args, events, positions):
    if args.assign is None:
        # A member that leads its group and does not know the topic's partitions yet gives nobody any, and does not always see
        # afterwards that there are some: on plain Kafka, too.
        consumer.partitions_for_topic(args.topic)
        listener = Listener(events, positions)
        consumer.subscribe([args.topic], listener=listener)
        return listener
    parts = [TopicPartition(args.topic, part) for part in args.assign]
    consumer.assign(parts)
    events.emit("assign", parts=sorted(args.assign))
    if args.start == "earliest":
        consumer.seek_to_beginning(*parts)
    elif args.start == "latest":
        consumer.seek_to_end(*parts)
    elif args.start.startswith("ts:"):
        for part, found in consumer.offsets_for_times({part: int(args.start[3:]) for part in parts}).items():
            if found is None:
                consumer.seek_to_end(part)
            else:
                consumer.seek(part, found.offset)
    else:
        for part in parts:
            consumer.seek(part, int(args.start))


def commit(consumer, positions, committed):
    try:
        consumer.commit(dict(positions))
        committed(positions, None)
    except KafkaError as error:
        committed(positions, error)
