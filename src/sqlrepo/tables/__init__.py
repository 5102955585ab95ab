"""Tables described without SQLAlchemy, and how entities are mapped to their rows."""
