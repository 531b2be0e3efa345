#!/bin/bash
# Run a program, and again when it has ended: a control plane survives the death of its parts.
while :; do
  "$@"
  echo "$(date -u +%T) ended with $?: $1 ${2:-}; starting it again" >&2
  sleep 0.3
done
