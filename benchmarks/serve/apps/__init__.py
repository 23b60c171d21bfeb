"""One module per peer: its server over the nets of ``benchmarks.serve.nets``. Run in the peer's environment."""
