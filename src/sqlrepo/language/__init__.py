"""The language of repositories: values, entities, criteria, query objects and results."""
