"""Triage on the box: a suggestion out of vitals, made beside a process that runs the model."""
