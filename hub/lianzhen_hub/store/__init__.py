"""The hub's database: SQLite by default, PostgreSQL by one setting, the same tables."""
