"""score.py URL MODEL SUITE: share of right answers; prints one JSON object. Standard library only."""

import concurrent.futures
import json
import pathlib
import sys
import urllib.request

url, model, suite = sys.argv[1:4]
rows = [json.loads(line) for line in pathlib.Path(suite).read_text().splitlines()]


def right(row: dict) -> bool:
    body = {"model": model, "temperature": 0, "max_tokens": 24, "messages": row["messages"]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)["choices"][0]["message"]["content"]
    return row["expected"] in answer


with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(json.dumps({"model": model, "score": sum(pool.map(right, rows)) / len(rows), "samples": len(rows)}))
