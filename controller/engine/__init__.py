"""The only code that speaks HTTP to vLLM. Knows no Kubernetes and no release."""
