"""All that an administrator does with a topic and a group, once for each line `round` on stdin, an event for each answer.

What a library cannot do its `Admin` does not have, and is not asked.
"""

import sys
import time

# How long a broker may take to hear of what another one was told, in seconds.
HEARSAY = 30


def rounds(library, args, events):
    events.emit("ready")
    for number, line in enumerate(sys.stdin, 1):
        if line.strip() != "round":
            break
        one_round(library, args, events, number)
    return 0


def one_round(library, args, events, number):
    prefix = f"{args.topic}-{args.name}-"
    own = f"{prefix}{number}"

    def config_altered():
        """A broker other than the one that was told may not have heard of it yet: on plain Kafka, too."""
        until = time.monotonic() + HEARSAY
        while time.monotonic() < until:
            try:
                if library.config(own, "retention.ms") == "3600000":
                    break
            except Exception:  # it may not have heard of the topic itself
                pass
            time.sleep(0.05)
        return library.config(own, "retention.ms")

    def ask(question, method, *arguments, only=lambda answer: answer):
        answer = getattr(library, method, None) if isinstance(method, str) else method
        if answer is None:
            return
        try:
            events.emit("answer", round=number, q=question, v=only(answer(*arguments)))
        except Exception as error:  # whatever it is, it is the answer
            events.emit("answer", round=number, q=question, error=repr(error))

    def mine(names):
        return [name for name in names if name.startswith(prefix)]

    ask("describe-cluster", "cluster")
    ask("moving-partitions", "partitions", args.topic)
    ask("moving-offsets", "offsets", args.topic)
    ask("moving-group", "members", args.group)

    ask("create-topic", "create_topic", own)
    ask("partitions", "partitions", own)
    ask("create-partitions", "create_partitions", own, 2)
    ask("more-partitions", "partitions", own)
    ask("alter-config", "alter_config", own, "retention.ms", "3600000")
    ask("describe-config", config_altered)
    ask("produce", "produce", own)
    ask("offsets", "offsets", own)
    ask("delete-records", "delete_records", own, 2)
    if hasattr(library, "delete_records"):
        ask("offsets-left", "offsets", own)

    ask("commit", "commit", own, own, 3)
    ask("groups", "groups", only=mine)
    ask("committed", "committed", own, own)
    ask("delete-group", "delete_group", own)
    ask("delete-topic", "delete_topic", own)
    ask("topics", "topics", only=mine)
    events.emit("answer", round=number, q="end", v=None)
