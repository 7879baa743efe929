"""A copy from which a hub comes back: made while it runs, verified, and then called safe."""
