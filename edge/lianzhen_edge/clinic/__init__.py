"""The clinic's console: pages that the box serves on its network, with the line up or down."""
