"""A real Kubernetes, a real node, a real vLLM and a model that learns in a minute, on one bare machine."""
