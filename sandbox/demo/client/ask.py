"""ask.py URL MODEL TEXT: one chat completion; prints the answer and how long it took. Standard library only."""

import json
import sys
import time
import urllib.request

url, model, text = sys.argv[1:4]
body = {
    "model": model,
    "temperature": 0,
    "max_tokens": 24,
    "messages": [{"role": "system", "content": "Route the ticket."}, {"role": "user", "content": text}],
}
request = urllib.request.Request(
    f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
)
began = time.monotonic()
with urllib.request.urlopen(request, timeout=30) as response:
    answer = json.load(response)["choices"][0]["message"]["content"]
print(f"{answer}   ({time.monotonic() - began:.2f} s)")
