"""Triage at the hub: what the boxes suggested, and what clinicians made of it."""
