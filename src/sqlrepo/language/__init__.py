"""What callers say and get: values, entities, criteria, query objects and results."""
