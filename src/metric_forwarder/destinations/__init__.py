"""Where points go: one module for each destination, all behind the port in ``delivery.destination``."""
