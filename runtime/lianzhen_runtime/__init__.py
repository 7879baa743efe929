"""The thin shell that box and hub share: configuration, logging, durable files, TLS, MQTT.

Everything that does I/O and is the same on both sides stands here once. What is said over the
wire is in ``lianzhen_protocol``; what is done about it is in ``lianzhen_edge`` and
``lianzhen_hub``.
"""
