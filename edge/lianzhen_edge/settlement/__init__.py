"""Settlement at the clinic: by what the box knows, posted pending, line or no line."""
