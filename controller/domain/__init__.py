"""What to do with a release: pure decisions over a frozen snapshot and the time. Imports only `controller.api`."""
