"""The edge box: keeps what a clinic records, and carries it to the hub."""

__version__ = "0.1.0"
