"""What the page, the API and the files answer: one module for each table or chart of a run."""
