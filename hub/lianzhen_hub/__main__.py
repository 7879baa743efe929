"""``python -m lianzhen_hub``: how a hub starts its own children."""

from .main import main

main()
