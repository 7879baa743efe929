"""Vital signs and alarms at the hub."""
