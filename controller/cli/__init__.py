"""The command line, `adapterrelease` and `kubectl-adapterrelease`. It reads arguments and prints; others work."""
