"""``python -m lianzhen_edge``: how a box starts its own children."""

from .main import main

main()
