"""The MQTT broker as a child of the hub: its configuration, its life, its gate."""
