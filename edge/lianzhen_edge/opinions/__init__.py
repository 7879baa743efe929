"""Signed opinions at the clinic: kept as they were signed, judged here, with or without a line."""
