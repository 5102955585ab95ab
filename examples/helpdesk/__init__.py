"""A help desk for several tenants: tickets with tags, comments and stars, over related tables."""
