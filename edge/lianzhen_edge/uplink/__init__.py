"""The way to the hub: two MQTT sessions, frames up, acknowledgements and records down."""
