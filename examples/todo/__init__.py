"""A small to-do service: one domain, stored in memory or in a database."""
