"""Consultations at the hub: whose events stand, who is asked, until when, who may look."""
