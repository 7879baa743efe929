"""The hub's console: pages for experts, admins and patients."""
