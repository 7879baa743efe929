"""The shared half of both consoles: routes that deny by default, sessions, pages, live events."""
