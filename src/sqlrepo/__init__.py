"""Repositories over memory or a database."""
