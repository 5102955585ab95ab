"""Descriptions of tables, and the mapping between their rows and entities."""
