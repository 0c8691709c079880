"""confluent-kafka: librdkafka with its callbacks."""

import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Producer, TopicPartition

import confluent_admin
import record


def properties(args, events):
    return {
        "bootstrap.servers": args.bootstrap,
        "client.id": args.name,
        "error_cb": lambda error: events.emit("log", level="ERRCB", text=str(error)),
        "logger": events.logger("librdkafka"),
    }


def admin(args, events):
    return confluent_admin.Admin(args, properties(args, events))


# --- produce ---


def produce(args, events, stop):
    config = properties(args, events)
    flags = {"acks": args.acks, "enable.idempotence": args.idempotent, "compression.type": args.compression}
    config.update({key: flag for key, flag in flags.items() if flag is not None})
    if args.transactional_id:
        config["transactional.id"] = args.transactional_id
    producer = Producer({**config, **args.extra})
    transactions = Transactions(producer, events) if args.transactional_id else None
    counts = {"sent": 0, "acked": 0, "failed": 0}
    partition = {} if args.partition is None else {"partition": args.partition}

    def send(seq):
        key, identity = f"k{seq % args.keys}", record.identity()
        if args.log_sends:
            events.emit("send", s=seq, k=key, id=identity)

        def delivered(error, message):
            if error is None:
                offset = message.offset()
                ack = {"s": seq, "k": key, "id": identity, "pt": message.partition(), "o": -1 if offset is None or offset < 0 else offset}
                if transactions:
                    return transactions.written.append(ack)
                counts["acked"] += 1
                events.emit("ack", **ack)
            else:
                failed(error)

        def failed(error):
            counts["failed"] += 1
            events.emit("fail", s=seq, k=key, id=identity, error=str(error))

        while True:
            try:
                producer.produce(args.topic, record.value(args.name, seq, key, identity, args.size), key.encode(),
                                 on_delivery=delivered, **partition)
                return
            except BufferError:  # its queue is full: wait for deliveries, as its documentation says
                producer.poll(0.1)
            except KafkaException as error:
                return failed(error)

    if transactions:
        producer.init_transactions(60)
    events.emit("ready")
    start = time.monotonic()
    while not stop.is_set() and not (args.records and counts["sent"] >= args.records):
        producer.poll(min(0.1, record.due(args, start, counts["sent"])))
        if record.due(args, start, counts["sent"]) == 0:
            if transactions:
                transactions.before(counts["sent"], counts)
            counts["sent"] += 1
            send(counts["sent"] - 1)
    producer.flush()
    if transactions:
        transactions.end(counts)
    events.emit("done", **counts)
    return 0


class Transactions:
    """Every 20 records are a transaction, and every fourth of these is aborted. Acknowledged is what is committed."""

    RECORDS, ABORTS = 20, 4

    def __init__(self, producer, events):
        self.producer, self.events, self.written, self.number = producer, events, [], None

    def before(self, seq, counts):
        if seq // self.RECORDS != self.number:
            self.end(counts)
            self.producer.begin_transaction()
            self.number = seq // self.RECORDS

    def end(self, counts):
        """Ends the one that is open. What is aborted is in the log by then."""
        if self.number is None:
            return
        self.producer.flush()
        if self.number % self.ABORTS == self.ABORTS - 1:
            self.producer.abort_transaction(60)
        else:
            self.producer.commit_transaction(60)
            counts["acked"] += len(self.written)
            for ack in self.written:
                self.events.emit("ack", **ack)
        self.written.clear()
        self.number = None


# --- consume ---


def consume(args, events, stop):
    def committed(error, partitions):
        outcome = {"ok": True} if error is None else {"ok": False, "error": str(error)}
        events.emit("commit", **outcome, offsets={str(one.partition): one.offset for one in partitions or () if one.offset >= 0})

    config = {**properties(args, events), "on_commit": committed}
    config["group.id"] = args.group or f"none-{args.name}"  # librdkafka insists on one; nothing is committed to it
    if args.commit != record.AUTO or args.group is None:
        config["enable.auto.commit"] = False
    if args.isolation:
        config["isolation.level"] = args.isolation
    if args.assign is None:
        config["auto.offset.reset"] = args.start
    consumer = Consumer({**config, **args.extra})
    events.emit("ready")
    join(consumer, args, events)

    received, code = 0, 0
    while not stop.is_set():
        try:
            messages = consumer.consume(500, 0.05)
        except KafkaException as error:
            events.emit("log", level="ERRCB", text=f"consume: {error}")
            code = 1
            break
        positions = {}
        for message in messages:
            if message.error():
                events.emit("log", level="ERRCB", text=f"consume: {message.error()}")
                continue
            received += 1
            positions[message.partition()] = message.offset() + 1
            events.emit("recv", pt=message.partition(), o=message.offset(), v=record.head(message.value()))
        if positions and args.group and args.commit in (record.SYNC, record.ASYNC):
            commit(consumer, args, positions, committed)
    consumer.close()
    events.emit("done", received=received)
    return code


def join(consumer, args, events):
    def numbers(partitions):
        return sorted(one.partition for one in partitions)

    if args.assign is None:
        consumer.subscribe(
            [args.topic],
            on_assign=lambda _, partitions: events.emit("assign", parts=numbers(partitions)),
            on_revoke=lambda _, partitions: events.emit("revoke", parts=numbers(partitions)),
            on_lost=lambda _, partitions: events.emit("revoke", parts=numbers(partitions), lost=True))
        return
    if args.start.startswith("ts:"):
        asked = [TopicPartition(args.topic, part, int(args.start[3:])) for part in args.assign]
        places = consumer.offsets_for_times(asked, 60)
    else:
        named = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}
        offset = named[args.start] if args.start in named else int(args.start)
        places = [TopicPartition(args.topic, part, offset) for part in args.assign]
    consumer.assign(places)
    events.emit("assign", parts=sorted(args.assign))


def commit(consumer, args, positions, committed):
    offsets = [TopicPartition(args.topic, part, offset) for part, offset in positions.items()]
    try:
        if args.commit == record.ASYNC:
            consumer.commit(offsets=offsets, asynchronous=True)  # on_commit tells the outcome
        else:
            outcome = consumer.commit(offsets=offsets, asynchronous=False)
            committed(next((one.error for one in outcome if one.error), None), outcome)
    except KafkaException as error:
        committed(error, offsets)
