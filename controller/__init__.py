"""The adapter release controller: LoRA adapters from experiment to merged production serving on vLLM."""

__version__ = "0.1.0"
