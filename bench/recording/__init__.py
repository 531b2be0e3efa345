"""`python -m bench.recording`: the terminal recording in the docs, of the real commands on a real cluster."""
