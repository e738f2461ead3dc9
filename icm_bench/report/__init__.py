"""What people and machines read of results: comparisons as text, Markdown, JSON and JUnit XML; results as a page."""
