"""Builders of the Kubernetes objects that the controller makes: pure functions from facts to JSON."""
