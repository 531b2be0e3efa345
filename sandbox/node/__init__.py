"""The node: what containers on it see, and the images that they run."""
