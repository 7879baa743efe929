"""Wearables at the box: who may publish, what comes in, and what rings."""
