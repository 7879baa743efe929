"""What the box has promised to keep: one SQLite file, sealed, one writer.

``journal.Journal`` is the door; ``writer`` commits in groups; ``schema`` only ever grows.
"""
