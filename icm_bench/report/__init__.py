"""What people and machines read of results: plots, tables, a page; comparisons as text, Markdown, JSON or JUnit XML."""
