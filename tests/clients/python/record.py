"""The records that the audit judges, and the flags that all drivers share."""

import argparse
import secrets
import time

AUTO, SYNC, ASYNC, NONE = COMMITS = ("auto", "sync", "async", "none")


def value(name, seq, key, identity, size):
    head = f"kc1 {name} {seq} {key} {identity}"
    padding = size - len(head) - 1
    return (head + " " + "x" * padding if padding > 0 else head).encode()


def identity():
    return secrets.token_hex(8)


def head(data):
    """A value without its padding: its first five words."""
    return None if data is None else " ".join(data.decode("latin-1").split(" ", 5)[:5])


def due(args, start, seq):
    """How long until record `seq` is to be sent, in seconds; 0 if now."""
    return max(0.0, start + seq / args.rate - time.monotonic()) if args.rate else 0.0


def arguments(add_flags=None):
    parser = argparse.ArgumentParser()
    if add_flags:
        add_flags(parser)
    commands = parser.add_subparsers(dest="command", required=True)

    produce = commands.add_parser("produce")
    produce.add_argument("--records", type=int, default=0)
    produce.add_argument("--rate", type=float, default=0, help="records a second, 0: as fast as it goes")
    produce.add_argument("--keys", type=int, default=16)
    produce.add_argument("--acks", choices=("all", "1", "0"))
    produce.add_argument("--idempotent", choices=("true", "false"))
    produce.add_argument("--compression", choices=("none", "gzip", "snappy", "lz4", "zstd"))
    produce.add_argument("--size", type=int, default=0)
    produce.add_argument("--partition", type=int)
    produce.add_argument("--log-sends", action="store_true")
    produce.add_argument("--transactional-id")

    consume = commands.add_parser("consume")
    consume.add_argument("--group")
    consume.add_argument("--assign", type=lambda text: [int(part) for part in text.split(",")])
    consume.add_argument("--from", dest="start", default="earliest")
    consume.add_argument("--commit", choices=COMMITS, default=AUTO)
    consume.add_argument("--isolation", choices=("read_uncommitted", "read_committed"))

    admin = commands.add_parser("admin")
    admin.add_argument("--group", required=True)

    for command in (produce, consume, admin):
        command.add_argument("--bootstrap", required=True)
        command.add_argument("--topic", required=True)
        command.add_argument("--name", required=True)
        command.add_argument("-X", dest="extra", action="append", default=[], metavar="KEY=VALUE")

    args = parser.parse_args()
    args.extra = dict(pair.split("=", 1) for pair in args.extra)
    if args.command == "consume" and args.assign is None:
        if args.group is None:
            parser.error("--group or --assign is needed")
        if args.start not in ("earliest", "latest"):
            parser.error("--from OFFSET and ts:MILLIS go with --assign")
    return args
