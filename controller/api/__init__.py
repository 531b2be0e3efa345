"""The AdapterRelease API: its models, its reasons, and the CRD that is generated from them."""
