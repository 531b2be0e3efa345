"""The edges of the decision: observe the cluster and vLLM, carry out actions, write the status."""
