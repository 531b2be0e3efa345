"""What the engine plugin costs: one vLLM, asked through it and past it, in turns. See bench/plugin_overhead.py."""
