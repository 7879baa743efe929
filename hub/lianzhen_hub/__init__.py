"""The hub: enrols boxes, takes in what they send, keeps it, and answers."""

__version__ = "0.1.0"
