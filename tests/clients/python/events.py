"""Events as lines of JSON on stdout, in order, at most 50 ms late; and the wish to stop.

`t` is CLOCK_MONOTONIC: one clock for all drivers of a machine.
"""

import collections
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback


class Events:
    def __init__(self, client):
        self.client = client
        self.lines = collections.deque()  # any thread may add to it
        self.lock = threading.Lock()
        threading.Thread(target=self._flush_for_ever, daemon=True).start()

    def emit(self, event, **fields):
        line = json.dumps({"t": round(time.monotonic(), 6), "e": event, "c": self.client, **fields}, separators=(",", ":"))
        self.lines.append(line)

    def flush(self):
        with self.lock:
            data = "".join(self.lines.popleft() + "\n" for _ in range(len(self.lines))).encode()
            try:
                while data:
                    data = data[os.write(1, data):]
            except BrokenPipeError:
                os._exit(1)  # nobody reads any more

    def _flush_for_ever(self):
        while True:
            self.flush()
            time.sleep(0.05)

    def logger(self, name):
        """A logger whose lines at WARN or above become events."""
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        logger.addHandler(_Handler(self))
        return logger


class _Handler(logging.Handler):
    def __init__(self, events):
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record):
        level = "ERROR" if record.levelno >= logging.ERROR else "WARN"
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += f": {record.exc_info[1]!r}"
        self.events.emit("log", level=level, text=text)


def stop_wish():
    """An event that is set by a line `stop`, by the end of stdin, or by SIGTERM."""
    wish = threading.Event()

    def read():
        for line in sys.stdin:
            if line.strip() == "stop":
                break
        wish.set()

    threading.Thread(target=read, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: wish.set())
    return wish


def leave(events, drive, *args):
    """Runs the driver and ends the process with what it returns, at once: a SIGTERM that comes late must not change the outcome."""
    try:
        code = drive(*args)
    except BaseException:
        traceback.print_exc()
        code = 1
    events.flush()
    sys.stderr.flush()
    os._exit(code)
