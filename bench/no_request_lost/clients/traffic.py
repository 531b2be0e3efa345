"""traffic.py WAY URL MODEL WORKERS RATE: ask until /tmp/stop appears, and keep every answer in /tmp/WAY.jsonl.

WORKERS ask one after another, RATE requests a second together: where a machine cannot keep up the rate falls, instead
of a queue that grows. Begins when /tmp/go is there, after one look at every library; prints `{"done": N}` each second.
Ends with a line `{"ended": N}`, and stays, so that what it wrote can be fetched. Clocks are the machine's wall clock.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

from ways import way

TMP = Path("/tmp")
LIMIT_SECONDS = 7200  # when nobody stops it
RESEND_PAUSE = 0.05  # after a failure: as impatient as a loop that tries again


class Pace:
    """When the next request is due, for all workers together; what was missed is not made up for."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._due = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due + self._gap, now)
            pause = self._due - now
        time.sleep(pause)


class Book:
    """Every request, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()
        self.done = 0

    def write(self, record: dict) -> None:
        with self._lock:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            self.done += 1


def work(number: int, asker, questions: list, pace: Pace, book: Book) -> None:
    turn = number
    while not (TMP / "stop").exists():
        pace.wait()
        question = questions[turn % len(questions)]
        record = {"worker": number, "question": question["id"], "start": time.time()}
        record |= asker.ask(question)
        record["end"] = time.time()
        book.write(record)
        turn += 1
        if "cause" in record:
            time.sleep(RESEND_PAUSE)


def die(told: threading.ExceptHookArgs) -> None:
    """A client that asks no more must not look like one that waits; its last words are what the log ends with."""
    print(f"{told.exc_type.__name__}: {told.exc_value}", flush=True)
    os._exit(1)


def main() -> None:
    threading.excepthook = die
    name, url, model, workers, rate = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    questions = json.loads(Path(__file__).with_name("questions.json").read_text())
    questions = questions["long" if name == "stream" else "short"]
    askers = way(name, url, model, workers)
    book, pace = Book(TMP / f"{name}.jsonl"), Pace(rate)
    print(json.dumps({"ready": name}), flush=True)
    began = time.monotonic()
    while not (TMP / "go").exists() and time.monotonic() - began < LIMIT_SECONDS:
        time.sleep(0.05)
    threads = [
        threading.Thread(target=work, args=(number, asker, questions, pace, book), daemon=True)
        for number, asker in enumerate(askers)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and time.monotonic() - began < LIMIT_SECONDS:
        print(json.dumps({"done": book.done}), flush=True)
        time.sleep(1)
    for thread in threads:
        thread.join(120)
    print(json.dumps({"ended": book.done}), flush=True)
    time.sleep(LIMIT_SECONDS)


if __name__ == "__main__":
    main()
