"""Consultations at the clinic: asked for, line or no line, and shown as the hub orders them."""
