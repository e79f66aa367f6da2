"""The cluster as gates judge it: nodes and the pods that matter at one moment, and what follows from that. Pure but for ``read``."""
