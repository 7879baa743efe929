"""What an edge box and the hub say to each other.

Pure: no sockets, no files, no clock and no random numbers. Time, ids and nonces come in as
arguments, so every machine here can be run against its peer in a simulator before any socket
exists. ``docs/protocol.md`` is the normative text; each module names its section.
"""
