"""``python -m metric_forwarder``: the command line."""

from metric_forwarder.cli import main

if __name__ == "__main__":
    main()
