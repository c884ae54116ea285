"""Where points go: one module per destination, all behind the port in ``port``."""
