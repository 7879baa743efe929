"""Fixtures that every browser test may use."""

from support.browser import browser, clinic_page, hub_page, site

__all__ = ["browser", "clinic_page", "hub_page", "site"]
