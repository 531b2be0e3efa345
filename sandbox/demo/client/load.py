"""load.py URL MODEL SUITE RATE: a constant load until /tmp/stop appears, 2 hours at most. Standard library only.

RATE requests a second, each on a connection of its own, by CLIENTS clients that wait for their answers: where a
machine cannot keep up the rate falls, which the result says, instead of a queue that grows until requests time out.
Prints a line every 10 s, and at the end one JSON object: requests, failed (by cause), right answers, latencies.
"""

import collections
import http.client
import json
import pathlib
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

URL, MODEL, SUITE, RATE = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
CLIENTS = 16
STOP = pathlib.Path("/tmp/stop")
LIMIT_SECONDS = 7200  # when nobody stops it
rows = [json.loads(line) for line in pathlib.Path(SUITE).read_text().splitlines()]
host = urllib.parse.urlsplit(URL)
lock = threading.Lock()
causes: collections.Counter = collections.Counter()
latencies: list = []
right = 0
done = 0


def one(row: dict) -> None:
    try:
        ask(row)
    finally:
        clients.release()


def ask(row: dict) -> None:
    global right, done
    body = {"model": MODEL, "temperature": 0, "max_tokens": 24, "messages": row["messages"]}
    began, cause, answer = time.monotonic(), "", ""
    try:
        connection = http.client.HTTPConnection(host.hostname, host.port or 80, timeout=60)
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(body),
            {"content-type": "application/json", "connection": "close"},
        )
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status == 200:
            answer = json.loads(text)["choices"][0]["message"]["content"]
        else:
            cause = f"{response.status} {text[:120]!r}"
    except Exception as error:
        cause = repr(error)[:120]
    with lock:
        done += 1
        if cause:
            causes[cause] += 1
            print(f"FAILED at {time.strftime('%H:%M:%S')}: {cause}", flush=True)
        else:
            latencies.append(time.monotonic() - began)
            right += row["expected"] in answer


clients = threading.BoundedSemaphore(CLIENTS)
began = last = due = time.monotonic()
number = 0
with ThreadPoolExecutor(CLIENTS) as pool:
    while not STOP.exists() and time.monotonic() - began < LIMIT_SECONDS:
        clients.acquire()
        pool.submit(one, rows[number % len(rows)])
        number += 1
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{done} answered, {sum(causes.values())} failed, {number - done} in flight", flush=True)
        due = max(due + 1 / RATE, time.monotonic())  # what was missed is not made up for
        time.sleep(max(0.0, due - time.monotonic()))
seconds = time.monotonic() - began
latencies.sort()
print(
    json.dumps(
        {
            "requests": done,
            "failed": sum(causes.values()),
            "causes": dict(causes),
            "right": right,
            "seconds": round(seconds, 1),
            "rate": round(done / seconds, 1),
            "p50": round(latencies[len(latencies) // 2], 3) if latencies else None,
            "p99": round(latencies[int(len(latencies) * 0.99)], 3) if latencies else None,
        }
    ),
    flush=True,
)
