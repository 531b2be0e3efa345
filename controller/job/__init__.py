"""What a Job does, in stages that can be repeated: import, build, evaluate. Must not know of Kubernetes."""
