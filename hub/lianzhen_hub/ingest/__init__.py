"""What boxes send, from the broker to the log, and from the log to what it means.

``service`` listens and answers, ``intake`` commits, ``projector`` applies, ``downlink`` sends
records the other way. Nothing is acknowledged before ``intake`` has committed it.
"""
