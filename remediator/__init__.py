"""A daemon that heals a Kubernetes network: alerts in, careful and recorded actions out."""

__version__ = "0.1.0"
