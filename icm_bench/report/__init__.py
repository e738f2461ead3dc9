"""What people and machines read of results: plots and tables, comparisons as text, Markdown, JSON and JUnit XML, a page."""
