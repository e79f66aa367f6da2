"""What the tests play on a real control plane: Cilium's agents, its operator where the real one knows no v2, a network that speaks BGP."""
