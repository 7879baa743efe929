"""The hub's audit log, the boxes' as they told them, and who keeps whose head."""
