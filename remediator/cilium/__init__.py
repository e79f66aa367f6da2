"""What restarts of Cilium need to know to be right: who runs where, what forbids a restart, and what proves one.

``picture`` holds what was read, ``judge`` and ``proof`` say what is wrong with it and are pure; ``reading`` and ``health`` ask Kubernetes
and Prometheus through the doors that they are given. Gates and actions use the same judgement.
"""
